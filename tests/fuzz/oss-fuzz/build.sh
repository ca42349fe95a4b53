#!/bin/bash -eu
# $CC, $CFLAGS, $CXX, $CXXFLAGS, $LIB_FUZZING_ENGINE and $OUT are OSS-Fuzz'. The generic kernels alone, which every CPU
# has; comparisons are not traced, see CLANG in tests/fuzz/engines.py.
flags="$CFLAGS -std=c11 -ffp-contract=off -fno-math-errno -pthread -Icsrc -Icsrc/include -DFD_HAVE_GENERIC"
flags="$flags -DFD_WAKE_WORK=1 -DFD_UNIT_WORK=1024 -DFD_GAIN_LOSSES=0 -DFD_FUZZ_OPERATIONS=65536 -fno-sanitize-coverage=trace-cmp"
objects=()
for source in csrc/{base,cpu,ops,model}/*.c csrc/isa/isa_generic.c tests/fuzz/{model,mutate_model}.c; do
  object="$WORK/$(basename "$source" .c).o"
  $CC $flags -c "$source" -o "$object"
  objects+=("$object")
done
$CXX $CXXFLAGS "${objects[@]}" $LIB_FUZZING_ENGINE -pthread -lm -o "$OUT/model"
cp tests/fuzz/corpora/model.zip "$OUT/model_seed_corpus.zip"
printf '[libfuzzer]\nmax_len = 8192\ntimeout = 20\nentropic = 0\n' >"$OUT/model.options"
