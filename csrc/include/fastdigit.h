/* fastdigit: run a compiled small convolutional network on the CPU.
 *
 * The only header an embedder needs. Plain C11, also fine in C++. docs/c-api.md is the guide to it.
 *
 * The library depends on libc and threads only, prints nothing, never aborts, and starts no thread before a call asks
 * for more than one. Its only mutable state is the pool of those threads; a context of one thread never touches it.
 *
 * Errors. Every function that can fail returns an fd_status and takes an fd_error, which may be NULL and is written
 * only if the call fails. On failure, a handle that was to be created is NULL.
 *
 * Threads. An fd_model is immutable once it is open: any number of threads may use it at once. An fd_context is the
 * scratch memory of one call at a time: give each thread its own, or take turns. Different contexts are independent.
 * All other functions may be called from any thread at any time.
 *
 * Ownership. What a function creates belongs to the caller until it is given to its counterpart: fd_model_open and
 * fd_model_open_memory to fd_model_close, fd_context_create and fd_context_create_in to fd_context_free. A context
 * must not outlive its model. Inputs and outputs belong to the caller and are not kept after the call.
 */
#ifndef FASTDIGIT_H
#define FASTDIGIT_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header; fd_version tells that of the library. */
#define FD_VERSION_MAJOR 0
#define FD_VERSION_MINOR 1
#define FD_VERSION_PATCH 0

#if defined(__GNUC__)
#define FD_API __attribute__((visibility("default")))
#else
#define FD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The numbers are part of the ABI: they never change, and later versions may add to them. */
typedef enum fd_status {
    FD_OK = 0,
    FD_ERR_ARGUMENT = 1,    /* a null pointer, a number out of range: a mistake of the caller */
    FD_ERR_MEMORY = 2,      /* an allocation failed */
    FD_ERR_IO = 3,          /* the file could not be opened or read; errno may say why */
    FD_ERR_FORMAT = 4,      /* not a .fdm file, or a damaged or malformed one */
    FD_ERR_VERSION = 5,     /* a .fdm file of another version of the format */
    FD_ERR_UNSUPPORTED = 6, /* well formed, but beyond a limit of this engine */
    FD_ERR_ISA = 7,         /* an ISA was asked for, mostly by FASTDIGIT_ISA, that is unknown or that this CPU lacks */
    FD_ERR_INPUT = 8,       /* an input value is NaN, infinite or out of the model's range */
    FD_ERR_LIMIT = 9,       /* a model asks for more than a limit of fd_limits allows */
    FD_ERR_CANCELLED = 10,  /* fd_context_cancel, or the function of fd_context_set_poll, has ended a run */
    FD_ERR_TIMEOUT = 11     /* a run took longer than fd_context_set_timeout allows */
} fd_status;

/* What went wrong, for people. */
typedef struct fd_error {
    fd_status status;
    char message[248]; /* zero terminated; a sentence without a full stop */
} fd_error;

typedef struct fd_model fd_model;
typedef struct fd_context fd_context;

typedef enum fd_input_type {
    FD_INPUT_F32 = 0, /* float, in [range_lo, range_hi] */
    FD_INPUT_U8 = 1   /* unsigned char b, standing for b / u8_divisor; if the model accepts bytes */
} fd_input_type;

/* Of a model of several inputs or outputs, this is about the first of each: fd_model_get_input and fd_model_get_output
 * tell of the others. */
typedef struct fd_model_info {
    const char *isa;        /* ISA whose kernels run this model, such as "avx2" */
    size_t input_rank;      /* 1 or 3 */
    size_t input_dims[3];   /* of one image: (height, width, channels), or (features) */
    size_t input_elements;  /* product of input_dims */
    size_t output_elements; /* values per image */
    int has_softmax;        /* the output is a vector of probabilities */
    float range_lo;         /* least and greatest input value accepted; +-FLT_MAX: any finite value */
    float range_hi;
    unsigned u8_divisor;    /* 0: bytes are not accepted */
    size_t ops;             /* of the program, the input's included */
    uint64_t multiply_adds; /* per image, by the layers' definitions, less outputs that pooling never reads */
    size_t weight_bytes;    /* of the WEIGHTS section */
    const void *file;       /* the whole file, as it was read: what fd_model_open_memory takes */
    size_t file_bytes;
    size_t context_bytes; /* scratch memory of a context, for each of its threads */
    const char *meta;     /* the META section: UTF-8 JSON, meta_bytes long, not zero terminated */
    size_t meta_bytes;
    size_t output_rank;    /* 1 or 3 */
    size_t output_dims[3]; /* of one image: (classes), or (height, width, channels) */
} fd_model_info;

/* What a file may ask for, or else is refused with FD_ERR_LIMIT; and what a model does ask for.
 *
 * Checked before anything of that size is allocated, in time that grows with the file and not with what it asks for. A
 * member that is 0 stands for its default (fd_limits_default), UINT64_MAX for no limit. Later versions may add members
 * at the end; `size` is set by the caller to sizeof(fd_limits), and members behind it have their defaults. */
typedef struct fd_limits {
    size_t size;
    uint64_t file_bytes;    /* of the file */
    uint64_t meta_bytes;    /* of its META; the format has at most 1 MiB */
    uint64_t tensors;       /* of the file; the format has at most 4096 */
    uint64_t ops;           /* of its program; the format has at most 4096 */
    uint64_t operations;    /* an image: multiply-adds, and whatever else takes time, in units of what one takes */
    uint64_t plan_bytes;    /* memory beside the file, for what is derived from weights */
    uint64_t context_bytes; /* scratch memory of a context, for each of its threads */
} fd_limits;

/* An input or an output of a model. The name lives as long as the model, and is never NULL.
 *
 * Later versions may add members at the end; `size` is as in fd_op_info. */
typedef struct fd_port_info {
    size_t size;
    const char *name; /* UTF-8; of a model of one input and one output mostly "input" and "output" */
    size_t rank;      /* 1 or 3 */
    size_t dims[3];   /* of one image: (height, width, channels), or (features) */
    size_t elements;  /* product of dims */
    float range_lo;   /* of an input, as in fd_model_info; otherwise 0 */
    float range_hi;
    unsigned u8_divisor;
    int has_softmax; /* of an output: it is a vector of probabilities that add up to 1 */
    int has_sigmoid; /* of an output: each value is a probability of its own, of a vector or alone */
} fd_port_info;

/* How an op of a model is computed, on this CPU. The strings live as long as the model, and are never NULL.
 *
 * Later versions may add members at the end. `size` is set by the caller to sizeof(fd_op_info) before the call; what is
 * written ends there, and where the library's own structure ends, and `size` becomes that. */
typedef struct fd_op_info {
    size_t size;
    const char *op;         /* operator in the file, such as "CONV2D" */
    const char *label;      /* for people, such as "conv 3x3" */
    const char *kernel;     /* the one that does the work, such as "conv2d" or "winograd_4x4_3x3" */
    const char *algorithm;  /* of a convolution: "direct", "abreast 2" (so many neighbouring outputs share a vector),
                               "grouped", "depthwise", or Winograd's, "F(4x4,3x3)" and "F(1x4,1x3)" for instance;
                               otherwise "" */
    const char *arithmetic; /* of its multiply-adds: "float" or "bytes" */
    const char *precision;  /* of its matrix of weights: "f32", "f16" or "i8"; "" if it has none */
    size_t input_rank;      /* 1 or 3 */
    size_t input_dims[3];   /* of one image, of the first input; op 0 has those of the network */
    size_t output_rank;     /* 1 or 3 */
    size_t output_dims[3];  /* of one image */
    uint64_t multiply_adds; /* per image, by its definition, less outputs that pooling never reads */
    uint64_t executed;      /* per image, by its algorithm; for Winograd's the products, without the transforms */
    size_t weight_bytes;    /* that its algorithm reads, at least once a call */
    size_t scratch_bytes;   /* memory that it needs while it runs, for each thread; part of context_bytes */
} fd_op_info;

/* What a model gets as one of its inputs: n * elements values, row-major without gaps, of any alignment that suits
 * their type. */
typedef struct fd_input_data {
    const void *values;
    fd_input_type type;
} fd_input_data;

/* Results of a run, of one output; each pointer may be NULL. All are row-major, without gaps, and complete if the run
 * succeeds. */
typedef struct fd_outputs {
    float *values;   /* (n, elements): what the network computes, probabilities if has_softmax */
    float *logits;   /* (n, elements): the same before the final softmax */
    int64_t *labels; /* (n): index of the greatest logit, the first of equals; of a single output if has_sigmoid, 1 if
                        it is greater than 0.5, otherwise 0. A single output that is no probability has no label: 0 */
} fd_outputs;

/* ---- The library ---- */

/* The version of the library, such as "0.1.0". */
FD_API const char *fd_version(void);

/* A name for a status, such as "FD_ERR_IO". Never NULL. */
FD_API const char *fd_status_name(fd_status status);

/* Name of the i-th ISA this library was built with, best first, or NULL past the last; *usable (may be NULL) tells
 * whether this CPU and operating system can run it. */
FD_API const char *fd_isa_name(size_t i, int *usable);

/* The ISA a model opened now would use: the best usable one, or the one that the environment's FASTDIGIT_ISA names.
 * FD_ERR_ISA, FD_ERR_ARGUMENT. Reads the environment: not beside a setenv. */
FD_API fd_status fd_isa_selected(const char **name, fd_error *error);

/* What `fd_probe` measures. The numbers are part of the ABI, as those of fd_status. */
typedef enum fd_probe_kind {
    FD_PROBE_FMA = 0, /* multiply-adds of floats in registers */
    FD_PROBE_DOT = 1, /* multiply-adds of bytes in registers, into 32-bit sums */
    FD_PROBE_READ = 2 /* reading memory */
} fd_probe_kind;

/* What a core can do at best with an ISA of this library, for benchmarks: time this call. Does `rounds` rounds in the
 * calling thread, and counts in *work what was done, multiply-adds or bytes. `isa` is a name of fd_isa_name, or NULL
 * for the one that fd_isa_selected says. FD_PROBE_READ reads `size` floats at `memory` once a round; for the others
 * they are NULL and 0. FD_ERR_ISA, FD_ERR_ARGUMENT. */
FD_API fd_status fd_probe(const char *isa, fd_probe_kind kind, const float *memory, size_t size, size_t rounds,
                          uint64_t *work, fd_error *error);

/* ---- Models ---- */

/* Reads a model from a file, validates it and prepares it for this CPU. The file is not needed afterwards. Any status
 * but FD_ERR_INPUT. Reads the environment, as fd_isa_selected does. */
FD_API fd_status fd_model_open(const char *path, fd_model **model, fd_error *error);

/* The same from memory of any alignment, which is copied and may be freed afterwards. */
FD_API fd_status fd_model_open_memory(const void *data, size_t size, fd_model **model, fd_error *error);

/* The limits of fd_model_open and fd_model_open_memory, safe for files from anywhere: a few times what the largest
 * networks take that the library is for. FD_ERR_ARGUMENT if limits->size is less than the first version's. */
FD_API fd_status fd_limits_default(fd_limits *limits, fd_error *error);

/* fd_model_open with limits of the caller; NULL: the defaults. */
FD_API fd_status fd_model_open_limited(const char *path, const fd_limits *limits, fd_model **model, fd_error *error);

/* And fd_model_open_memory. */
FD_API fd_status fd_model_open_memory_limited(const void *data, size_t size, const fd_limits *limits, fd_model **model,
                                              fd_error *error);

/* What a model asks for of each limit. FD_ERR_ARGUMENT as for fd_limits_default. */
FD_API fd_status fd_model_get_usage(const fd_model *model, fd_limits *usage, fd_error *error);

/* Frees a model; all its contexts must have been freed before. NULL is allowed. */
FD_API void fd_model_close(fd_model *model);

/* Facts about a model; the pointers in *info live as long as the model. */
FD_API void fd_model_get_info(const fd_model *model, fd_model_info *info);

/* How many inputs a model has: at least one. */
FD_API size_t fd_model_input_count(const fd_model *model);

/* How many outputs a model has: at least one. */
FD_API size_t fd_model_output_count(const fd_model *model);

/* What input i is. FD_ERR_ARGUMENT if there is none, or info->size is less than the first version's. */
FD_API fd_status fd_model_get_input(const fd_model *model, size_t i, fd_port_info *info, fd_error *error);

/* What output i is; errors as for fd_model_get_input. */
FD_API fd_status fd_model_get_output(const fd_model *model, size_t i, fd_port_info *info, fd_error *error);

/* How op i is computed, for as many ops as fd_model_info says; op 0 takes the input. FD_ERR_ARGUMENT if there is no op
 * i, or info->size is less than the first version's. */
FD_API fd_status fd_model_get_op(const fd_model *model, size_t i, fd_op_info *info, fd_error *error);

/* ---- Contexts ---- */

/* Allocates what a call needs, so that the call itself allocates nothing. `threads` (1 to 256) is how many threads a
 * run with this context uses at most, the calling one included. FD_ERR_ARGUMENT, FD_ERR_MEMORY. */
FD_API fd_status fd_context_create(const fd_model *model, unsigned threads, fd_context **context, fd_error *error);

/* The same in memory of the caller: at least as many bytes as fd_context_size says, of any alignment. It must stay
 * where it is, and untouched, until fd_context_free, which leaves it to the caller. FD_ERR_ARGUMENT if it is too
 * small. */
FD_API fd_status fd_context_create_in(const fd_model *model, unsigned threads, void *memory, size_t size,
                                      fd_context **context, fd_error *error);

/* Bytes that fd_context_create_in needs. FD_ERR_ARGUMENT, FD_ERR_MEMORY if no memory could be that large. */
FD_API fd_status fd_context_size(const fd_model *model, unsigned threads, size_t *size, fd_error *error);

/* Frees a context that no run is using. NULL is allowed. */
FD_API void fd_context_free(fd_context *context);

/* Where the time goes: from now on, every run with this context adds the nanoseconds that op i took to
 * nanoseconds[i], for as many ops as the model's fd_model_info says; NULL stops it. Measuring costs some 50 ns an op
 * and image. Only for contexts of one thread: FD_ERR_ARGUMENT otherwise. */
FD_API fd_status fd_context_profile(fd_context *context, uint64_t *nanoseconds, fd_error *error);

/* ---- Ending a run before it is done ----
 *
 * A run that is to end looks at that now and then: between images and, of large networks, between ops, some hundred
 * times a second; never within an op. A run that is over sooner than that may not notice, and succeed. What was to be
 * written is unspecified after FD_ERR_CANCELLED and FD_ERR_TIMEOUT, and the context is as good as before. */

/* Makes runs with this context end with FD_ERR_CANCELLED, the one in progress and later ones, until fd_context_resume.
 * May be called from any thread at any time in the life of the context, and from a signal handler. NULL is allowed. */
FD_API void fd_context_cancel(fd_context *context);

/* Lets a context run again that was cancelled; to be called as fd_context_cancel. */
FD_API void fd_context_resume(fd_context *context);

/* From the next run on, runs with this context that take longer end with FD_ERR_TIMEOUT; 0: never. Not during a run.
 * FD_ERR_ARGUMENT. */
FD_API fd_status fd_context_set_timeout(fd_context *context, uint64_t nanoseconds, fd_error *error);

/* From the next run on, runs with this context call poll(arg) in the thread that called them, some 20 to 100 times a
 * second, and end with FD_ERR_CANCELLED if it returns other than 0; NULL: none. A run of a few milliseconds does not
 * call it. Not during a run. FD_ERR_ARGUMENT. */
FD_API fd_status fd_context_set_poll(fd_context *context, int (*poll)(void *arg), void *arg, fd_error *error);

/* ---- Running ---- */

/* Runs n images (n may be 0) of a model of one input, for its first output. `input` holds n * input_elements values,
 * row-major without gaps, of any alignment that suits its type. A row's result is bit for bit the same whatever n, its
 * position, the number of threads and the run, and on every ISA but generic. Allocates nothing; with more than one
 * thread, a call may start those that the pool lacks. FD_ERR_ARGUMENT; FD_ERR_INPUT: *bad (may be NULL) is the index of
 * the first offending value in the batch and outputs are unspecified; FD_ERR_CANCELLED and FD_ERR_TIMEOUT, if that was
 * asked for. An output must not overlap an input: FD_ERR_ARGUMENT. Never FD_ERR_MEMORY: a call that gets fewer threads
 * than it asked for makes do. */
FD_API fd_status fd_run(const fd_model *model, fd_context *context, const void *input, fd_input_type type, size_t n,
                        const fd_outputs *outputs, size_t *bad, fd_error *error);

/* The same for a model of any number of inputs and outputs: an element of `inputs` for each input and one of `outputs`
 * for each output, in the order of the model. An output whose pointers are all NULL is computed and not given.
 * FD_ERR_ARGUMENT, also if there are not as many as the model has; FD_ERR_INPUT: *bad_input (may be NULL) is which
 * input has the first offending image's first offending value, and *bad its index in that input's batch. */
FD_API fd_status fd_run_all(const fd_model *model, fd_context *context, const fd_input_data *inputs, size_t input_count,
                            size_t n, const fd_outputs *outputs, size_t output_count, size_t *bad_input, size_t *bad,
                            fd_error *error);

#ifdef __cplusplus
}
#endif

#endif
