/* classify MODEL.fdm [FILE...]
 *
 * Says what each image shows: a line an image with the file, the image's number in it, the label and the model's
 * output for that label, a probability if the network ends in a softmax. A file is a PGM (P5) or, for a model of three
 * channels, a PPM (P6), of exactly the size of the model's input; or an IDX file of many images, as MNIST's are. "-",
 * or no file, is standard input.
 *
 * Ends with 0 if all went well, 1 if a file could not be read, 2 if nothing could be tried.
 */
#include <ctype.h>
#include <fastdigit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 64 };

/* A file, read up to its first pixel. */
typedef struct images {
    FILE *stream;
    const char *name;
    size_t left; /* images not read yet */
} images;

/* What runs: a model, a context for this thread, and room for a batch. */
typedef struct classifier {
    fd_model *model;
    fd_context *context;
    fd_model_info info;
    unsigned char *pixels; /* (BATCH, input_elements) */
    float *values;         /* (BATCH, output_elements) */
    int64_t labels[BATCH];
} classifier;

static int complain(const char *name, const char *what) {
    fprintf(stderr, "%s: %s\n", name, what);
    return -1;
}

/* A number of a PNM header, with the white space and comments before it; -1 if there is none up to 65535. */
static long pnm_number(FILE *stream) {
    int c = getc(stream);
    while (isspace(c) || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = getc(stream);
        else
            c = getc(stream);
    }
    if (!isdigit(c)) return -1;
    long n = 0;
    for (; isdigit(c); c = getc(stream))
        if ((n = n * 10 + (c - '0')) > 65535) return -1;
    return isspace(c) ? n : -1; /* the one white space that ends it is read */
}

static int read_u32(FILE *stream, unsigned long *out) {
    unsigned char b[4];
    if (fread(b, 1, sizeof b, stream) != sizeof b) return -1;
    *out = (unsigned long)b[0] << 24 | (unsigned long)b[1] << 16 | (unsigned long)b[2] << 8 | b[3];
    return 0;
}

static int check_size(const images *in, const fd_model_info *info, unsigned long height, unsigned long width) {
    if (height == info->input_dims[0] && width == info->input_dims[1]) return 0;
    fprintf(stderr, "%s: images of %lu x %lu pixels, expected %zu x %zu\n", in->name, height, width,
            info->input_dims[0], info->input_dims[1]);
    return -1;
}

/* Reads the header of either format. */
static int open_images(images *in, const fd_model_info *info) {
    const int first = getc(in->stream), second = getc(in->stream);
    if (first == 'P' && (second == '5' || second == '6')) {
        if (info->input_dims[2] != (second == '5' ? 1u : 3u))
            return complain(in->name, "its number of channels is not the model's");
        const long width = pnm_number(in->stream), height = pnm_number(in->stream), most = pnm_number(in->stream);
        if (width < 1 || height < 1) return complain(in->name, "its header gives no size");
        if (most != 255) return complain(in->name, "its greatest value is not 255");
        in->left = 1;
        return check_size(in, info, (unsigned long)height, (unsigned long)width);
    }
    /* http://yann.lecun.com/exdb/mnist/: 0, 0, the type of its values (8: bytes), the number of dimensions. */
    const int type = getc(in->stream), rank = getc(in->stream);
    if (first != 0 || second != 0 || type != 8 || rank != 3)
        return complain(in->name, "neither PGM, PPM nor IDX images of bytes");
    unsigned long count, height, width;
    if (read_u32(in->stream, &count) || read_u32(in->stream, &height) || read_u32(in->stream, &width))
        return complain(in->name, "it ends in its header");
    if (info->input_dims[2] != 1) return complain(in->name, "IDX images have one channel, the model more");
    in->left = count;
    return check_size(in, info, height, width);
}

/* Everything in one file; images that were read before an error are still answered. */
static int classify(classifier *c, images *in) {
    if (open_images(in, &c->info) != 0) return -1;
    for (size_t done = 0; in->left > 0;) {
        const size_t wanted = in->left < BATCH ? in->left : BATCH;
        const size_t n = fread(c->pixels, c->info.input_elements, wanted, in->stream);
        const fd_outputs out = {.values = c->values, .labels = c->labels};
        fd_error error;
        if (fd_run(c->model, c->context, c->pixels, FD_INPUT_U8, n, &out, NULL, &error) != FD_OK)
            return complain(in->name, error.message);
        for (size_t i = 0; i < n; i++) {
            const int64_t label = c->labels[i];
            printf("%s\t%zu\t%lld\t%.6f\n", in->name, done + i, (long long)label,
                   (double)c->values[i * c->info.output_elements + (size_t)label]);
        }
        if (n < wanted) return complain(in->name, "it ends before its last image");
        done += n;
        in->left -= n;
    }
    return 0;
}

static int open_classifier(classifier *c, const char *path) {
    fd_error error;
    if (fd_model_open(path, &c->model, &error) != FD_OK || fd_context_create(c->model, 1, &c->context, &error) != FD_OK)
        return complain(path, error.message);
    fd_model_get_info(c->model, &c->info);
    if (c->info.input_rank != 3 || !c->info.u8_divisor) return complain(path, "its input is not an image");
    c->pixels = malloc(BATCH * c->info.input_elements);
    c->values = malloc(BATCH * c->info.output_elements * sizeof *c->values);
    return c->pixels && c->values ? 0 : complain(path, "no memory for a batch");
}

static void close_classifier(classifier *c) {
    free(c->pixels);
    free(c->values);
    fd_context_free(c->context);
    fd_model_close(c->model);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: classify MODEL.fdm [FILE...]\n");
        return 2;
    }
    classifier c = {0};
    if (open_classifier(&c, argv[1]) != 0) {
        close_classifier(&c);
        return 2;
    }
    static char standard_input[] = "-";
    char *alone[] = {standard_input, NULL};
    int status = 0;
    for (char **name = argc > 2 ? argv + 2 : alone; *name; name++) {
        images in = {.name = *name, .stream = strcmp(*name, "-") == 0 ? stdin : fopen(*name, "rb")};
        if (!in.stream) {
            perror(*name);
            status = 1;
            continue;
        }
        if (classify(&c, &in) != 0) status = 1;
        if (in.stream != stdin) fclose(in.stream);
    }
    close_classifier(&c);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("standard output");
        status = 1;
    }
    return status;
}
