"""Binding to csrc/include/fastdigit.h: buffer to pointer, nogil, status to exception.

No logic lives here, but for `run_batch`: of the time of a single digit, a tenth went to looking at arrays in Python. It
is written in the words of the stable ABI, because what Cython makes of Python's for that ABI took twice as long.
"""

import os
import threading

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AsString, PyBytes_AsStringAndSize, PyBytes_FromStringAndSize, PyBytes_Size
from libc cimport errno as c_errno
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.string cimport memset

from numpy import dtype, empty, ndarray

from fastdigit.c_api cimport (
    FD_ERR_ARGUMENT, FD_ERR_CANCELLED, FD_ERR_FORMAT, FD_ERR_INPUT, FD_ERR_IO, FD_ERR_ISA, FD_ERR_LIMIT,
    FD_ERR_MEMORY, FD_ERR_TIMEOUT, FD_ERR_UNSUPPORTED, FD_ERR_VERSION, FD_INPUT_F32, FD_INPUT_U8, FD_OK,
    FD_PROBE_DOT, FD_PROBE_FMA, FD_PROBE_READ, FD_VERSION_MAJOR, FD_VERSION_MINOR, FD_VERSION_PATCH, fd_context,
    fd_context_create, fd_context_free, fd_context_profile, fd_context_set_timeout, fd_error, fd_input_data,
    fd_isa_name, fd_isa_selected, fd_limits, fd_limits_default, fd_model, fd_model_close, fd_model_get_info,
    fd_model_get_input, fd_model_get_op, fd_model_get_output, fd_model_get_usage, fd_model_info,
    fd_model_input_count, fd_model_open_limited, fd_model_open_memory_limited, fd_model_output_count, fd_op_info,
    fd_outputs, fd_port_info, fd_probe, fd_probe_kind, fd_run, fd_status, fd_version, fd_xxhash64,
)
from fastdigit.errors import (
    InputError,
    IsaError,
    LimitError,
    ModelFormatError,
    RunCancelledError,
    RunTimeoutError,
    UnsupportedError,
)


cdef object EXCEPTIONS = {
    FD_ERR_ARGUMENT: ValueError,
    FD_ERR_MEMORY: MemoryError,
    FD_ERR_IO: OSError,
    FD_ERR_FORMAT: ModelFormatError,
    FD_ERR_VERSION: ModelFormatError,
    FD_ERR_UNSUPPORTED: UnsupportedError,
    FD_ERR_ISA: IsaError,
    FD_ERR_INPUT: InputError,
    FD_ERR_LIMIT: LimitError,
    FD_ERR_CANCELLED: RunCancelledError,
    FD_ERR_TIMEOUT: RunTimeoutError,
}


cdef extern from "Python.h":
    ctypedef struct PyObject
    ctypedef PyObject *(*PyCFunction)(PyObject *, PyObject *)
    ctypedef struct PyMethodDef:
        const char *ml_name
        PyCFunction ml_meth
        int ml_flags
        const char *ml_doc
    int METH_FASTCALL
    object PyCFunction_NewEx(PyMethodDef *method, object self, PyObject *module)
    object PyObject_CallFunctionObjArgs(object function, PyObject *first, PyObject *second, PyObject *end)
    # That it has failed, and not an exception, is what is asked here.
    int get_buffer "PyObject_GetBuffer"(PyObject *exporter, Py_buffer *view, int flags)
    int PyErr_ExceptionMatches(PyObject *exception)
    void PyErr_Clear()
    PyObject *PyErr_Occurred()
    PyObject *PyExc_BufferError
    PyObject *PyExc_ValueError

cdef extern from *:
    """
    /* Contexts that no call is using, in slots, taken and put back without a lock. */
    enum { SPARES = 64 };

    static fd_context *take_spare(fd_context **spares, int slots) {
        for (int i = 0; i < slots; i++) {
            if (!__atomic_load_n(&spares[i], __ATOMIC_RELAXED)) continue;
            fd_context *context = __atomic_exchange_n(&spares[i], NULL, __ATOMIC_ACQUIRE);
            if (context) return context;
        }
        return NULL;
    }

    static void put_spare(fd_context **spares, int slots, fd_context *context) {
        for (int i = 0; i < slots; i++) {
            fd_context *none = NULL;
            if (__atomic_load_n(&spares[i], __ATOMIC_RELAXED)) continue;
            if (__atomic_compare_exchange_n(&spares[i], &none, context, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) return;
        }
        fd_context_free(context);
    }

    /* The thread in which Python handles signals. */
    static unsigned long main_thread;

    /* Asks Python, in the main thread, whether there was a signal whose handler raises, such as Ctrl-C. */
    static int poll_signals(void *arg) {
        PyThreadState **state = arg;
        PyEval_RestoreThread(*state);
        const int raised = PyErr_CheckSignals();
        *state = PyEval_SaveThread();
        return raised;
    }

    /* fd_run, or fd_run_all if there are several inputs or outputs, without the GIL. */
    static fd_status run_released(const fd_model *model, fd_context *context, const fd_input_data *inputs,
                                  size_t input_count, size_t n, const fd_outputs *outputs, size_t output_count,
                                  uint64_t timeout, fd_error *error) {
        PyThreadState *state = PyEval_SaveThread();
        fd_status status = FD_OK;
        const int polls = PyThread_get_thread_ident() == main_thread;
        fd_context_set_poll(context, polls ? poll_signals : NULL, &state, NULL);
        if (timeout) fd_context_set_timeout(context, timeout, NULL);
        if (input_count == 1 && output_count == 1)
            status = fd_run(model, context, inputs->values, inputs->type, n, outputs, NULL, error);
        else
            status = fd_run_all(model, context, inputs, input_count, n, outputs, output_count, NULL, NULL, error);
        if (timeout) fd_context_set_timeout(context, 0, NULL);
        PyEval_RestoreThread(state);
        return status;
    }
    """
    enum:
        SPARES
    unsigned long main_thread
    fd_context *take_spare(fd_context **spares, int slots)
    void put_spare(fd_context **spares, int slots, fd_context *context)
    fd_status run_released(const fd_model *model, fd_context *context, const fd_input_data *inputs, size_t input_count,
                           size_t n, const fd_outputs *outputs, size_t output_count, uint64_t timeout, fd_error *error)


cdef object NDARRAY = ndarray
cdef object EMPTY = empty
cdef object FLOAT32 = dtype("float32")
cdef object INT64 = dtype("int64")
cdef object UINT8 = dtype("uint8")

# What `run_batch` returns.
cdef enum:
    KIND_VALUES
    KIND_LOGITS
    KIND_LABELS
VALUES, LOGITS, LABELS = KIND_VALUES, KIND_LOGITS, KIND_LABELS

# Axes of one image, and shapes of it that a batch may have: whole, flat, without one of its axes.
cdef enum:
    MAX_RANK = 3
    MAX_SHAPES = MAX_RANK + 2

# Memory that contexts may take which no call is using, but for one of them.
IDLE_BYTES = 64 << 20

# Inputs that a file may have, and outputs.
cdef enum:
    MAX_PORTS = 64


cdef int check(fd_status status, const fd_error *error) except -1:
    if status != FD_OK:
        raise EXCEPTIONS[status]((<bytes>error.message).decode("utf-8", "replace"))
    return 0


cdef int check_run(fd_status status, const fd_error *error) except -1:
    """The exception of a signal's handler comes first; a mistake in the arguments is one in what a batch came with."""
    if status == FD_OK:
        return 0
    if PyErr_Occurred() != NULL:
        return -1
    if status == FD_ERR_ARGUMENT:
        raise InputError((<bytes>error.message).decode("utf-8", "replace"))
    return check(status, error)


def remember_main_thread(unsigned long ident):
    """Says in which thread Python handles signals."""
    global main_thread
    main_thread = ident


def default_limits():
    """fd_limits_default as a dict."""
    cdef fd_error error
    cdef fd_limits limits
    limits.size = sizeof(limits)
    check(fd_limits_default(&limits, &error), &error)
    return limits_dict(&limits)


cdef object limits_dict(const fd_limits *limits):
    return {
        "file_bytes": limits.file_bytes,
        "meta_bytes": limits.meta_bytes,
        "tensors": limits.tensors,
        "ops": limits.ops,
        "operations": limits.operations,
        "plan_bytes": limits.plan_bytes,
        "context_bytes": limits.context_bytes,
    }


def version():
    """The version of the C library."""
    return fd_version().decode()


cdef int check_version() except -1:
    built = f"{FD_VERSION_MAJOR}.{FD_VERSION_MINOR}.{FD_VERSION_PATCH}"
    if version() != built:
        raise ImportError(f"this process has loaded libfastdigit {version()} before, under the same name as the one of "
                          f"fastdigit {built}: import fastdigit first")
    return 0


check_version()


def _remember_main_thread():
    remember_main_thread(threading.main_thread().ident)


_remember_main_thread()
if hasattr(os, "register_at_fork"):  # the thread that forked is the only one of the child
    os.register_at_fork(after_in_child=_remember_main_thread)


def isas():
    """Names of the ISAs of this build, best first, each with whether this CPU can run it."""
    cdef int usable
    cdef size_t i = 0
    names = []
    while fd_isa_name(i, &usable) != NULL:
        names.append((fd_isa_name(i, NULL).decode(), bool(usable)))
        i += 1
    return names


def selected_isa():
    """The ISA that a model opened now would use."""
    cdef fd_error error
    cdef const char *name
    check(fd_isa_selected(&name, &error), &error)
    return name.decode()


def xxhash64(data, uint64_t seed=0):
    """The XXH64 of a C-contiguous buffer, the checksum of model files: the compiler's too, for in Python it takes
    seconds."""
    cdef Py_buffer view
    cdef uint64_t digest
    PyObject_GetBuffer(data, &view, PyBUF_C_CONTIGUOUS)
    with nogil:
        digest = fd_xxhash64(view.buf, <size_t>view.len, seed)
    PyBuffer_Release(&view)
    return digest


# What `probe` does.
PROBE_FMA, PROBE_DOT, PROBE_READ = FD_PROBE_FMA, FD_PROBE_DOT, FD_PROBE_READ


def probe(str isa, int kind, size_t rounds, memory=None):
    """What a core can do at best with an ISA: does `rounds` rounds, and returns how many multiply-adds or bytes.

    PROBE_READ reads `memory`, a C-contiguous buffer of float32, once a round.
    """
    cdef fd_error error
    cdef fd_status status
    cdef Py_buffer view
    cdef uint64_t work = 0
    cdef const float *data = NULL
    cdef size_t size = 0
    name = isa.encode()
    cdef const char *c_name = name
    if memory is not None:
        PyObject_GetBuffer(memory, &view, PyBUF_C_CONTIGUOUS)
        data = <const float *>view.buf
        size = <size_t>view.len // sizeof(float)
    with nogil:
        status = fd_probe(c_name, <fd_probe_kind>kind, data, size, rounds, &work, &error)
    if memory is not None:
        PyBuffer_Release(&view)
    check(status, &error)
    return work


cdef class Core:
    """One open model and the contexts that its calls have left for the next ones."""

    cdef fd_model *model
    cdef unsigned threads
    cdef fd_context *spares[SPARES]
    cdef int slots  # how many of them are used
    cdef fd_model_info info
    cdef size_t input_count
    cdef size_t output_count
    cdef size_t output  # of `run` and `run_batch`
    cdef size_t output_elements
    cdef int shape_count
    cdef int ranks[MAX_SHAPES]
    cdef Py_ssize_t dims[MAX_SHAPES][MAX_RANK]

    def __cinit__(self, source, unsigned threads, limits=None):
        """Opens `source`: bytes of a model, or a str path; `limits` are those of `default_limits` that are not so."""
        cdef fd_limits given
        cdef fd_error error
        cdef fd_status status
        cdef const char *data
        cdef char *path
        cdef size_t size
        self.threads = threads
        memset(&given, 0, sizeof(given))
        given.size = sizeof(given)
        if limits is not None:
            given.file_bytes = limits["file_bytes"]
            given.meta_bytes = limits["meta_bytes"]
            given.tensors = limits["tensors"]
            given.ops = limits["ops"]
            given.operations = limits["operations"]
            given.plan_bytes = limits["plan_bytes"]
            given.context_bytes = limits["context_bytes"]
        if isinstance(source, bytes):
            data = PyBytes_AsString(source)
            size = <size_t>PyBytes_Size(source)
            with nogil:
                status = fd_model_open_memory_limited(data, size, &given, &self.model, &error)
        else:
            encoded = source.encode("utf-8", "surrogateescape")
            PyBytes_AsStringAndSize(encoded, &path, NULL)  # refuses an embedded null
            with nogil:
                c_errno.errno = 0
                status = fd_model_open_limited(path, &given, &self.model, &error)
            if status == FD_ERR_IO and c_errno.errno:
                raise OSError(c_errno.errno, (<bytes>error.message).decode("utf-8", "replace"))
        check(status, &error)
        fd_model_get_info(self.model, &self.info)
        self.input_count = fd_model_input_count(self.model)
        self.output_count = fd_model_output_count(self.model)
        self.output_elements = self.info.output_elements
        # Few of many threads or of a large network: what calls at the same time needed once is not kept for ever.
        each = max(1, self.info.context_bytes * threads)
        self.slots = min(SPARES, max(1, IDLE_BYTES // each))
        # Finds out now, and not in the first call, that there is no memory for it.
        put_spare(self.spares, self.slots, self.new_context(self.threads))

    def __dealloc__(self):
        cdef int i
        for i in range(SPARES):
            fd_context_free(self.spares[i])
        fd_model_close(self.model)

    cdef fd_context *new_context(self, unsigned threads) except NULL:
        cdef fd_error error
        cdef fd_context *context = NULL
        check(fd_context_create(self.model, threads, &context, &error), &error)
        return context

    def facts(self):
        """fd_model_info as a dict."""
        return {
            "isa": self.info.isa.decode(),
            "input_shape": tuple(self.info.input_dims[i] for i in range(self.info.input_rank)),
            "output_shape": tuple(self.info.output_dims[i] for i in range(self.info.output_rank)),
            "outputs": self.info.output_elements,
            "has_softmax": bool(self.info.has_softmax),
            "range": (self.info.range_lo, self.info.range_hi),
            "accepts_u8": self.info.u8_divisor != 0,
            "multiply_adds": self.info.multiply_adds,
            "weight_bytes": self.info.weight_bytes,
            "file_bytes": self.info.file_bytes,
            "context_bytes": self.info.context_bytes,
            "meta": PyBytes_FromStringAndSize(self.info.meta, <Py_ssize_t>self.info.meta_bytes).decode(),
        }

    def usage(self):
        """fd_model_get_usage as a dict."""
        cdef fd_error error
        cdef fd_limits usage
        usage.size = sizeof(usage)
        check(fd_model_get_usage(self.model, &usage, &error), &error)
        return limits_dict(&usage)

    def idle_contexts(self):
        """How many contexts are kept for calls to come."""
        cdef int i
        count = 0
        for i in range(self.slots):
            count += self.spares[i] != NULL
        return count

    def inputs(self):
        """fd_port_info of each input as a dict."""
        cdef fd_error error
        cdef fd_port_info port
        cdef size_t i
        ports = []
        for i in range(self.input_count):
            port.size = sizeof(port)
            check(fd_model_get_input(self.model, i, &port, &error), &error)
            ports.append({
                "name": port.name.decode(),
                "shape": tuple(port.dims[k] for k in range(port.rank)),
                "range": (port.range_lo, port.range_hi),
                "accepts_u8": port.u8_divisor != 0,
            })
        return ports

    def outputs(self):
        """fd_port_info of each output as a dict."""
        cdef fd_error error
        cdef fd_port_info port
        cdef size_t i
        ports = []
        for i in range(self.output_count):
            port.size = sizeof(port)
            check(fd_model_get_output(self.model, i, &port, &error), &error)
            ports.append({
                "name": port.name.decode(),
                "shape": tuple(port.dims[k] for k in range(port.rank)),
                "elements": port.elements,
                "has_softmax": bool(port.has_softmax),
                "has_sigmoid": bool(port.has_sigmoid),
            })
        return ports

    def choose_output(self, size_t i):
        """Makes `run` and `run_batch` give output i; before, they give the first."""
        cdef fd_error error
        cdef fd_port_info port
        port.size = sizeof(port)
        check(fd_model_get_output(self.model, i, &port, &error), &error)
        self.output = i
        self.output_elements = port.elements

    def plan(self):
        """fd_op_info of each op as a dict."""
        cdef fd_error error
        cdef fd_op_info op
        cdef size_t i
        plan = []
        for i in range(self.info.ops):
            op.size = sizeof(op)
            check(fd_model_get_op(self.model, i, &op, &error), &error)
            plan.append({
                "op": op.op.decode(),
                "label": op.label.decode(),
                "kernel": op.kernel.decode(),
                "algorithm": op.algorithm.decode(),
                "arithmetic": op.arithmetic.decode(),
                "precision": op.precision.decode(),
                "input_shape": tuple(op.input_dims[k] for k in range(op.input_rank)),
                "output_shape": tuple(op.output_dims[k] for k in range(op.output_rank)),
                "multiply_adds": op.multiply_adds,
                "executed": op.executed,
                "weight_bytes": op.weight_bytes,
                "scratch_bytes": op.scratch_bytes,
            })
        return plan

    def to_bytes(self):
        """The model file."""
        return PyBytes_FromStringAndSize(<const char *>self.info.file, <Py_ssize_t>self.info.file_bytes)

    def run(self, input, bint u8, Py_ssize_t n, values, logits, labels, uint64_t timeout=0):
        """Runs n images of a model of one input, for the chosen output.

        All arguments are C-contiguous buffers: `input` of n * input_elements bytes if `u8`, else floats; `values` and
        `logits` of n times the elements of the output floats or None; `labels` of n int64 or None. `timeout` is in nanoseconds, 0 for none.
        """
        cdef fd_outputs outputs
        cdef Py_buffer views[4]
        cdef int taken = 0
        cdef size_t elements = <size_t>n * self.output_elements
        try:
            acquire(input, &views[0], <size_t>n * self.info.input_elements * (1 if u8 else sizeof(float)), False)
            taken = 1
            outputs.values = <float *>acquire_output(values, views, &taken, elements * sizeof(float))
            outputs.logits = <float *>acquire_output(logits, views, &taken, elements * sizeof(float))
            outputs.labels = <int64_t *>acquire_output(labels, views, &taken, <size_t>n * sizeof(int64_t))
            self.run_at(views[0].buf, u8, <size_t>n, &outputs, timeout)
        finally:
            for i in range(taken):
                PyBuffer_Release(&views[i])

    def run_all(self, inputs, Py_ssize_t n, outputs, uint64_t timeout=0):
        """Runs n images, for all outputs.

        `inputs` has (buffer, whether of bytes) for each input, `outputs` (values, logits, labels) for each output, each
        of them a buffer or None; buffers are as those of `run`.
        """
        cdef fd_input_data data[MAX_PORTS]
        cdef fd_outputs results[MAX_PORTS]
        cdef Py_buffer views[4 * MAX_PORTS]
        cdef int taken = 0
        cdef size_t i, size
        if len(inputs) != self.input_count or len(outputs) != self.output_count:
            raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs, expected {self.input_count} and "
                             f"{self.output_count}")
        try:
            for i, (port, (buffer, u8)) in enumerate(zip(self.inputs(), inputs)):
                size = <size_t>n * (1 if u8 else sizeof(float))
                for axis in port["shape"]:
                    size *= <size_t>axis
                acquire(buffer, &views[taken], size, False)
                data[i].values = views[taken].buf
                data[i].type = FD_INPUT_U8 if u8 else FD_INPUT_F32
                taken += 1
            for i, (port, (values, logits, labels)) in enumerate(zip(self.outputs(), outputs)):
                size = <size_t>n * <size_t>port["elements"] * sizeof(float)
                results[i].values = <float *>acquire_output(values, views, &taken, size)
                results[i].logits = <float *>acquire_output(logits, views, &taken, size)
                size = <size_t>n * sizeof(int64_t)
                results[i].labels = <int64_t *>acquire_output(labels, views, &taken, size)
            self.run_all_at(data, <size_t>n, results, timeout)
        finally:
            for j in range(taken):
                PyBuffer_Release(&views[j])

    def batch_runner(self, shapes):
        """The function `run_batch` of this model, for batches of images of any of the shapes.

        These are at most MAX_SHAPES of at most MAX_RANK axes.
        """
        for i, shape in enumerate(shapes):
            if i >= MAX_SHAPES or len(shape) > MAX_RANK:
                raise ValueError(f"too many shapes, or axes: {shapes}")
            self.ranks[i] = len(shape)
            for axis, size in enumerate(shape):
                self.dims[i][axis] = size
        self.shape_count = len(shapes)
        return PyCFunction_NewEx(&RUN_BATCH, self, NULL)

    cdef bint is_batch(self, const Py_buffer *view):
        """One or more images, in any of the shapes, aligned."""
        cdef int i, axis
        if view.ndim < 2 or view.shape[0] < 1 or <uintptr_t>view.buf % <uintptr_t>view.itemsize:
            return False
        for i in range(self.shape_count):
            if view.ndim != self.ranks[i] + 1:
                continue
            for axis in range(self.ranks[i]):
                if view.shape[axis + 1] != self.dims[i][axis]:
                    break
            else:
                return True
        return False

    cdef bint is_output(self, const Py_buffer *view, Py_ssize_t n, bint labels):
        """(n,) for labels, else (n, outputs); aligned."""
        if view.ndim != (1 if labels else 2) or view.shape[0] != n or <uintptr_t>view.buf % <uintptr_t>view.itemsize:
            return False
        return labels or view.shape[1] == <Py_ssize_t>self.output_elements

    cdef int run_into(self, const Py_buffer *batch, bint u8, void *out, int kind) except -1:
        """Runs a batch, for one of its results."""
        cdef fd_outputs outputs
        outputs.values = <float *>out if kind == KIND_VALUES else NULL
        outputs.logits = <float *>out if kind == KIND_LOGITS else NULL
        outputs.labels = <int64_t *>out if kind == KIND_LABELS else NULL
        return self.run_at(batch.buf, u8, <size_t>batch.shape[0], &outputs, 0)

    cdef int run_at(self, const void *input, bint u8, size_t n, const fd_outputs *outputs,
                    uint64_t timeout) except -1:
        cdef fd_input_data data
        cdef fd_outputs results[MAX_PORTS]
        data.values = input
        data.type = FD_INPUT_U8 if u8 else FD_INPUT_F32
        if self.output == 0:
            return self.run_released(&data, n, outputs, 1, timeout)
        memset(results, 0, sizeof(results))
        results[self.output] = outputs[0]
        return self.run_all_at(&data, n, results, timeout)

    cdef int run_all_at(self, const fd_input_data *inputs, size_t n, const fd_outputs *outputs,
                        uint64_t timeout) except -1:
        return self.run_released(inputs, n, outputs, self.output_count, timeout)

    cdef int run_released(self, const fd_input_data *inputs, size_t n, const fd_outputs *outputs, size_t output_count,
                          uint64_t timeout) except -1:
        cdef fd_error error
        cdef fd_status status
        cdef fd_context *context = take_spare(self.spares, self.slots)
        if context == NULL:
            context = self.new_context(self.threads)
        status = run_released(self.model, context, inputs, self.input_count, n, outputs, output_count, timeout, &error)
        put_spare(self.spares, self.slots, context)
        return check_run(status, &error)

    def profile(self, input, Py_ssize_t calls, Py_ssize_t n, nanoseconds):
        """Runs n images, `calls` times, on one thread, and adds up the time of each op.

        All arguments are C-contiguous buffers: `input` of calls * n * input_elements floats, `nanoseconds` of
        calls * ops uint64.
        """
        cdef fd_error error
        cdef fd_status status = FD_OK
        cdef fd_outputs outputs
        cdef Py_buffer views[2]
        cdef int taken = 0
        cdef size_t i
        cdef size_t ops = self.info.ops
        cdef size_t elements = <size_t>n * self.info.input_elements
        cdef fd_context *context = self.new_context(1)
        outputs.values = outputs.logits = NULL
        outputs.labels = NULL
        try:
            acquire(input, &views[0], <size_t>calls * elements * sizeof(float), False)
            taken = 1
            acquire(nanoseconds, &views[1], <size_t>calls * ops * sizeof(uint64_t), True)
            taken = 2
            with nogil:
                for i in range(<size_t>calls):
                    status = fd_context_profile(context, <uint64_t *>views[1].buf + i * ops, &error)
                    if status == FD_OK:
                        status = fd_run(self.model, context, <const float *>views[0].buf + i * elements,
                                        FD_INPUT_F32, <size_t>n, &outputs, NULL, &error)
                    if status != FD_OK:
                        break
            check(status, &error)
        finally:
            fd_context_free(context)
            for j in range(taken):
                PyBuffer_Release(&views[j])


cdef object run_batch(object self, PyObject **arguments, Py_ssize_t count):
    """Runs a batch that needs neither conversion nor an explanation; returns None for any other.

    Arguments are `batch`, `out` and `kind`. The batch is one or more images, a C-contiguous and aligned array of native
    float32 or, if the model takes them, uint8; `out` is None or a C-contiguous and aligned array of the right type and
    shape; `kind` is VALUES, LOGITS or LABELS. Returns `out` or a new array.
    """
    if count != 3:
        raise TypeError(f"run_batch takes 3 arguments, not {count}")
    cdef Core core = <Core>self
    cdef Py_buffer source, target
    cdef int kind = <object>arguments[2]
    cdef bint labels = kind == KIND_LABELS
    cdef bint u8
    batch = <object>arguments[0]
    if type(batch) is not NDARRAY:
        return None
    given = batch.dtype
    if given is FLOAT32:
        u8 = False
    elif given is UINT8 and core.info.u8_divisor:
        u8 = True
    else:
        return None
    out = <object>arguments[1]
    wanted = INT64 if labels else FLOAT32
    if out is not None and (type(out) is not NDARRAY or out.dtype is not wanted):
        return None
    if not borrow(batch, &source, PyBUF_C_CONTIGUOUS):
        return None
    try:
        if not core.is_batch(&source):
            return None
        if out is None:
            if labels:
                shape = source.shape[0]
            else:
                shape = source.shape[0], core.output_elements
            out = PyObject_CallFunctionObjArgs(EMPTY, <PyObject *>shape, <PyObject *>wanted, NULL)
        if not borrow(out, &target, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE):
            return None
        try:
            if not core.is_output(&target, source.shape[0], labels):
                return None
            core.run_into(&source, u8, target.buf, kind)
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
    return out


cdef PyMethodDef RUN_BATCH
RUN_BATCH.ml_name = "run_batch"
RUN_BATCH.ml_meth = <PyCFunction><void *>run_batch
RUN_BATCH.ml_flags = METH_FASTCALL
RUN_BATCH.ml_doc = NULL


cdef bint borrow(object array, Py_buffer *view, int flags) except -1:
    """Whether it has such a buffer: contiguous, writable."""
    if get_buffer(<PyObject *>array, view, flags) == 0:
        return True
    if not (PyErr_ExceptionMatches(PyExc_BufferError) or PyErr_ExceptionMatches(PyExc_ValueError)):
        return -1
    PyErr_Clear()
    return False


cdef int acquire(object buffer, Py_buffer *view, size_t size, bint writable) except -1:
    PyObject_GetBuffer(buffer, view, PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
    if <size_t>view.len != size:
        length = view.len
        PyBuffer_Release(view)
        raise ValueError(f"a buffer of {length} bytes, expected {size}")
    return 0


cdef void *acquire_output(object buffer, Py_buffer *views, int *taken, size_t size) except? NULL:
    if buffer is None:
        return NULL
    acquire(buffer, &views[taken[0]], size, True)
    taken[0] += 1
    return views[taken[0] - 1].buf
