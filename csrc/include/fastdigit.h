/* fastdigit: run a compiled small convolutional network on the CPU.
 *
 * The only header an embedder needs. Plain C11, also fine in C++. The library depends on libc and threads only; it
 * prints nothing, never aborts, starts no thread before a call asks for more than one, and keeps no global state
 * but the thread pool and the table of kernels chosen for this CPU.
 *
 * Thread safety: an fd_model is immutable after fd_model_open returns and may be shared by any number of threads.
 * An fd_context holds the scratch memory of one call: give each concurrent call its own.
 */
#ifndef FASTDIGIT_H
#define FASTDIGIT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define FD_API __attribute__((visibility("default")))
#else
#define FD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fd_status {
    FD_OK = 0,
    FD_ERR_ARGUMENT,    /* a null pointer, an unknown enumerator: a mistake of the caller */
    FD_ERR_MEMORY,      /* an allocation failed */
    FD_ERR_IO,          /* the file could not be opened or read */
    FD_ERR_FORMAT,      /* not a .fdm file, or a damaged or malformed one */
    FD_ERR_VERSION,     /* a .fdm file of another version of the format */
    FD_ERR_UNSUPPORTED, /* well formed, but beyond a limit of this engine */
    FD_ERR_ISA,         /* FASTDIGIT_ISA names an ISA that is unknown or that this CPU lacks */
    FD_ERR_INPUT,       /* an input value is NaN, infinite or out of the model's range */
} fd_status;

/* What went wrong, for people: filled by every call that takes one and fails. May be NULL. */
typedef struct fd_error {
    fd_status status;
    char message[248];
} fd_error;

typedef struct fd_model fd_model;
typedef struct fd_context fd_context;

typedef enum fd_input_type {
    FD_INPUT_F32 = 0, /* float, in [range_lo, range_hi] */
    FD_INPUT_U8 = 1   /* unsigned char b, standing for b / u8_divisor; if the model accepts bytes */
} fd_input_type;

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

/* Results of a run; each pointer may be NULL. All are row-major and written only if the run succeeds for the row. */
typedef struct fd_outputs {
    float *values;   /* (n, output_elements): what the network computes, probabilities if has_softmax */
    float *logits;   /* (n, output_elements): the same before the final softmax */
    int64_t *labels; /* (n): index of the greatest value, the first of equals */
} fd_outputs;

/* A name for a status, such as "FD_ERR_IO". Never NULL. */
FD_API const char *fd_status_name(fd_status status);

/* The version of the library, such as "0.1.0". */
FD_API const char *fd_version(void);

/* Name of the i-th ISA this library was built with, best first, or NULL past the last; *usable (may be NULL) tells
 * whether this CPU and operating system can run it. */
FD_API const char *fd_isa_name(size_t i, int *usable);

/* The ISA a model opened now would use: the best usable one, or the one that FASTDIGIT_ISA names. */
FD_API fd_status fd_isa_selected(const char **name, fd_error *error);

/* Reads and validates a model. The file is not needed afterwards. On success the caller owns *model. */
FD_API fd_status fd_model_open(const char *path, fd_model **model, fd_error *error);

/* The same from memory, which is copied and may be freed afterwards. */
FD_API fd_status fd_model_open_memory(const void *data, size_t size, fd_model **model, fd_error *error);

/* Frees a model. All its contexts must have been freed before. NULL is allowed. */
FD_API void fd_model_close(fd_model *model);

/* Facts about a model; its pointers live as long as the model. */
FD_API void fd_model_get_info(const fd_model *model, fd_model_info *info);

/* Allocates what a call needs, so that the call itself allocates nothing. `threads` (1 to 256) is how many threads a
 * run with this context uses, the calling one included. The model must outlive the context. */
FD_API fd_status fd_context_create(const fd_model *model, unsigned threads, fd_context **context, fd_error *error);
FD_API void fd_context_free(fd_context *context);

/* Where the time goes: from now on, every run with this context adds the nanoseconds that op i took to
 * nanoseconds[i], for as many ops as the model's fd_model_info says; NULL stops it. Measuring costs some 50 ns an op
 * and image. Only for contexts of one thread: FD_ERR_ARGUMENT otherwise. */
FD_API fd_status fd_context_profile(fd_context *context, uint64_t *nanoseconds, fd_error *error);

/* Runs n images (n may be 0). `input` holds n * input_elements values, row-major without gaps, of any alignment that
 * suits its type. A row's result is bit for bit the same whatever n, its position, the number of threads and the
 * run (on one ISA). On FD_ERR_INPUT, *bad (may be NULL) is the index of the first offending value in the batch and
 * outputs are unspecified. */
FD_API fd_status fd_run(const fd_model *model, fd_context *context, const void *input, fd_input_type type, size_t n,
                        const fd_outputs *outputs, size_t *bad, fd_error *error);

#ifdef __cplusplus
}
#endif

#endif
