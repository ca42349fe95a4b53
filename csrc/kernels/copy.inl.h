/* Moving floats: concatenation, padding, reshapes and transposes are copies with strides. */

FD_LOCAL void FD_FN(copy)(const fd_copy_args *a) {
    for (size_t i = 0; i < a->size[0]; i++) {
        for (size_t j = 0; j < a->size[1]; j++) {
            const float *const from = a->in + i * a->in_stride[0] + j * a->in_stride[1];
            float *const to = a->out + i * a->out_stride[0] + j * a->out_stride[1];
            if (a->in_stride[2] == 1 && a->out_stride[2] == 1)
                memcpy(to, from, a->size[2] * sizeof *to);
            else
                for (size_t k = 0; k < a->size[2]; k++) to[k * a->out_stride[2]] = from[k * a->in_stride[2]];
        }
    }
}
