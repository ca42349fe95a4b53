/* service MODEL.fdm SOCKET [WORKERS]
 *
 * Classifies images for other processes of this machine, over a Unix socket: one immutable model, shared by worker
 * threads that each have a context and buffers of their own, made before the first request. Answering one allocates
 * nothing. SIGTERM or SIGINT ends it: requests that have begun are answered, then it removes its socket and leaves.
 *
 * A connection carries any number of requests, one after the other. Numbers are in the byte order of the machine.
 *
 *   request    uint32 n, 1 to 256; n images of input_elements bytes
 *   answer     uint32 status, an fd_status; uint32 size of what follows
 *              FD_OK: int32 labels[n], float values[n][output_elements]; else a message, not zero terminated
 *
 * After a request that makes no sense the connection is closed. A worker stays with a connection until its client
 * closes it or is silent for IDLE_MS; clients beyond the number of workers wait in the backlog of the socket.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fastdigit.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_IMAGES = 256,
    MAX_WORKERS = 64,
    BACKLOG = 128,
    IDLE_MS = 5000,     /* that a client may take to begin a request */
    TRANSFER_MS = 5000, /* that a request, or an answer, may take on its way */
};

typedef struct service {
    fd_model *model;
    fd_model_info info;
    int listener;
    int stop; /* readable once the service is to end */
} service;

typedef struct worker {
    const service *service;
    fd_context *context;
    unsigned char *pixels; /* (MAX_IMAGES, input_elements) */
    float *values;         /* (MAX_IMAGES, output_elements) */
    int64_t labels[MAX_IMAGES];
    int32_t answer[MAX_IMAGES];
    pthread_t thread;
    int started;
} worker;

/* ---- Bytes, by a deadline ---- */

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits until the socket is ready: 1, or 0 at the deadline. */
static int ready(int fd, short events, int64_t deadline) {
    for (;;) {
        const int64_t left = deadline - now_ms();
        if (left <= 0) return 0;
        struct pollfd p = {.fd = fd, .events = events};
        const int n = poll(&p, 1, (int)left);
        if (n > 0) return 1;
        if (n < 0 && errno != EINTR) return 0;
    }
}

static int receive(int fd, void *data, size_t size, int64_t deadline) {
    for (char *at = data; size > 0;) {
        if (!ready(fd, POLLIN, deadline)) return -1;
        const ssize_t n = recv(fd, at, size, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (n <= 0) return -1;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

static int transmit(int fd, const void *data, size_t size, int64_t deadline) {
    for (const char *at = data; size > 0;) {
        if (!ready(fd, POLLOUT, deadline)) return -1;
        const ssize_t n = send(fd, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (n <= 0) return -1;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

/* ---- Requests ---- */

static int send_header(int fd, fd_status status, size_t size, int64_t deadline) {
    const uint32_t header[2] = {(uint32_t)status, (uint32_t)size};
    return transmit(fd, header, sizeof header, deadline);
}

static int send_error(int fd, fd_status status, const char *message) {
    const int64_t deadline = now_ms() + TRANSFER_MS;
    const size_t size = strlen(message);
    return send_header(fd, status, size, deadline) || transmit(fd, message, size, deadline) ? -1 : 0;
}

/* One request from its first byte to its answer. Nonzero if the connection is of no use any more. */
static int serve_request(worker *w, int fd) {
    const fd_model_info *const info = &w->service->info;
    const int64_t deadline = now_ms() + TRANSFER_MS;
    uint32_t n;
    if (receive(fd, &n, sizeof n, deadline) != 0) return -1;
    if (n < 1 || n > MAX_IMAGES) {
        char message[80];
        snprintf(message, sizeof message, "a request of %lu images, expected 1 to %d", (unsigned long)n, MAX_IMAGES);
        send_error(fd, FD_ERR_ARGUMENT, message);
        return -1;
    }
    if (receive(fd, w->pixels, n * info->input_elements, deadline) != 0) return -1;

    fd_error error;
    const fd_outputs out = {.values = w->values, .labels = w->labels};
    if (fd_run(w->service->model, w->context, w->pixels, FD_INPUT_U8, n, &out, NULL, &error) != FD_OK)
        return send_error(fd, error.status, error.message);
    for (uint32_t i = 0; i < n; i++) w->answer[i] = (int32_t)w->labels[i];

    const size_t labels = n * sizeof *w->answer, values = n * info->output_elements * sizeof *w->values;
    const int64_t until = now_ms() + TRANSFER_MS;
    return send_header(fd, FD_OK, labels + values, until) || transmit(fd, w->answer, labels, until) ||
           transmit(fd, w->values, values, until);
}

/* Waits for a file descriptor, or for the end of the service: 1 if it is the former. */
static int wait_unless_stopped(const service *s, int fd, int milliseconds) {
    struct pollfd p[2] = {{.fd = s->stop, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    int n;
    do n = poll(p, 2, milliseconds);
    while (n < 0 && errno == EINTR);
    return n > 0 && !p[0].revents && p[1].revents;
}

static void *work(void *arg) {
    worker *const w = arg;
    const service *const s = w->service;
    while (wait_unless_stopped(s, s->listener, -1)) {
        const int fd = accept(s->listener, NULL, NULL);
        if (fd < 0) {
            /* Another worker was faster, or the client left; without file descriptors, wait for some. */
            if (errno == EMFILE || errno == ENFILE) nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
            continue;
        }
        while (wait_unless_stopped(s, fd, IDLE_MS) && serve_request(w, fd) == 0) continue;
        close(fd);
    }
    return NULL;
}

/* ---- The socket ---- */

static int complain(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return -1;
}

/* Whether a socket lies there that nobody listens to any more: a service that was killed leaves one. */
static int is_stale(const struct sockaddr_un *address) {
    struct stat st;
    if (lstat(address->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) return 0;
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) return 0;
    const int refused = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static int listen_at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return complain(path);
    }
    strcpy(address.sun_path, path);
    if (is_stale(&address)) unlink(path);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) return complain("socket");
    const mode_t mask = umask(0177); /* for this user only */
    const int bound = bind(fd, (const struct sockaddr *)&address, sizeof address);
    umask(mask);
    if (bound != 0) {
        complain(path);
        close(fd);
        return -1;
    }
    /* Not blocking: a worker that wakes up too late must not wait in accept. */
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || listen(fd, BACKLOG) != 0) {
        complain(path);
        close(fd);
        unlink(path);
        return -1;
    }
    return fd;
}

/* ---- Beginning and end ---- */

static int make_worker(worker *w, const service *s) {
    fd_error error;
    w->service = s;
    if (fd_context_create(s->model, 1, &w->context, &error) != FD_OK) {
        fprintf(stderr, "%s\n", error.message);
        return -1;
    }
    w->pixels = malloc(MAX_IMAGES * s->info.input_elements);
    w->values = malloc(MAX_IMAGES * s->info.output_elements * sizeof *w->values);
    if (!w->pixels || !w->values) return complain("a worker's buffers");
    return 0;
}

static int start_worker(worker *w) {
    const int failed = pthread_create(&w->thread, NULL, work, w);
    if (failed) {
        errno = failed;
        return complain("a worker's thread");
    }
    w->started = 1;
    return 0;
}

static int serve(service *s, worker *workers, size_t count, const char *path, const sigset_t *signals) {
    int pipe_ends[2], status = 0;
    for (size_t i = 0; i < count; i++)
        if (make_worker(&workers[i], s) != 0) return -1;
    if (pipe(pipe_ends) != 0) return complain("pipe");
    s->stop = pipe_ends[0];
    s->listener = listen_at(path);
    if (s->listener < 0) {
        status = -1;
    } else {
        for (size_t i = 0; i < count && status == 0; i++) status = start_worker(&workers[i]);
        if (status == 0) {
            printf("listening at %s with %zu workers, %s\n", path, count, s->info.isa);
            fflush(stdout);
            int signal;
            sigwait(signals, &signal);
        }
    }
    close(pipe_ends[1]); /* every poll of `stop` now returns */
    for (size_t i = 0; i < count; i++)
        if (workers[i].started) pthread_join(workers[i].thread, NULL);
    close(pipe_ends[0]);
    if (s->listener >= 0) {
        close(s->listener);
        unlink(path);
    }
    return status;
}

int main(int argc, char **argv) {
    char *end = NULL;
    const long count = argc > 3 ? strtol(argv[3], &end, 10) : 2;
    if (argc < 3 || argc > 4 || (end && *end) || count < 1 || count > MAX_WORKERS) {
        fprintf(stderr, "usage: service MODEL.fdm SOCKET [WORKERS, 1 to %d]\n", MAX_WORKERS);
        return 2;
    }
    /* Blocked in every thread, and waited for in this one: no handler, nothing to be careful about in one. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    service s = {.listener = -1, .stop = -1};
    fd_error error;
    if (fd_model_open(argv[1], &s.model, &error) != FD_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 2;
    }
    fd_model_get_info(s.model, &s.info);
    worker *const workers = calloc((size_t)count, sizeof *workers);
    int status = -1;
    if (!s.info.u8_divisor)
        fprintf(stderr, "%s: its input is not an image\n", argv[1]);
    else if (!workers)
        complain("workers");
    else
        status = serve(&s, workers, (size_t)count, argv[2], &signals);

    for (size_t i = 0; workers && i < (size_t)count; i++) {
        fd_context_free(workers[i].context);
        free(workers[i].pixels);
        free(workers[i].values);
    }
    free(workers);
    fd_model_close(s.model);
    return status == 0 ? 0 : 1;
}
