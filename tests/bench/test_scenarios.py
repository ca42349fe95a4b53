"""Whole runs of the benchmark with fake runtimes in real worker processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastdigit.bench.adapter import ModelFiles, Runtime
from fastdigit.bench.results import EIGHT_BIT, FULL, Results, Settings, compare
from fastdigit.bench.scenarios import Images, digits, noise, run
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import InputError
from tests.support import bench_fakes

FILES = ModelFiles(fdm=Path("none.fdm"), onnx=(Path("none.onnx"),))
COUNT = 600


def images(tagged: tuple[int, ...] = ()) -> Images:
    random = np.random.default_rng(3)
    pixels = random.random((COUNT, 28, 28, 1), np.float32)
    pixels[:, 0, 0, 0] = 0
    pixels[list(tagged), 0, 0, 0] = bench_fakes.TAG
    return Images("test images", pixels, random.integers(0, 10, COUNT))


def run_fakes(
    *runtimes: type[Runtime],
    batches: tuple[int, ...] = (1, 64),
    data: Images | None = None,
    rounds: int = 3,
    **settings: object,
) -> Results:
    return run(
        runtimes,
        FILES,
        data or images(),
        Settings(batches=batches, rounds=rounds, warmup=0.0, budget=0.005, **settings),  # type: ignore[arg-type]
        reference=bench_fakes.Reference,
    )


def test_everything_is_measured_checked_and_classified() -> None:
    shares: list[float] = []
    data = images()
    results = run(
        [bench_fakes.Right, bench_fakes.Reference],
        FILES,
        data,
        Settings(batches=(1, 64), rounds=3, warmup=0.0, budget=0.005),
        reference=bench_fakes.Reference,
        on_progress=lambda what, share: shares.append(share),
    )
    assert not results.failures
    assert not results.parity_failed()
    assert [(m.runtime, m.batch, m.threads, len(m.turns)) for m in results.measurements] == [
        (name, batch, 1, 3) for batch in (1, 64) for name in ("fastdigit", "onnxruntime")
    ]
    for m in results.measurements:
        assert m.agreement is not None
        assert m.agreement.images == 512
        ratio = results.ratio(m)
        assert (ratio is None) == (m.runtime == "fastdigit")
    truth = bench_fakes.probabilities(data.images).argmax(axis=1) == data.labels
    for parity in results.parity:
        assert parity.agreement.images == COUNT
        assert parity.agreement.disagreements == 0
        assert parity.agreement.max_difference <= 1e-6
        assert parity.accuracy == truth.mean()
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_wrong_subject_is_not_timed_and_fails_parity() -> None:
    results = run_fakes(bench_fakes.OffByALittle, bench_fakes.Peer)
    assert results.parity_failed()
    assert {m.runtime for m in results.measurements} == {"peer"}
    assert [(f.runtime, f.batch, f.kind, f.final) for f in results.failures] == [
        ("fastdigit", batch, "wrong", False) for batch in (1, 64)
    ]
    assert all(results.ratio(m) is None for m in results.measurements)
    subject = results.parity[0].agreement
    assert (subject.disagreements, subject.passed) == (0, False)
    assert subject.max_difference == pytest.approx(3e-5, rel=0.1)


def test_one_wrong_label_beyond_the_sample_fails_parity() -> None:
    results = run_fakes(bench_fakes.WrongOnTagged, data=images(tagged=(COUNT - 1,)))
    assert not results.failures
    assert len(results.measurements) == 2
    assert results.parity[0].agreement.disagreements == 1
    assert results.parity_failed()


@pytest.mark.parametrize("peer", [bench_fakes.WrongPeer, bench_fakes.WritesNothing])
def test_wrong_peer_is_named_but_parity_is_about_the_subject(peer: type[Runtime]) -> None:
    results = run_fakes(bench_fakes.Right, peer, batches=(4,))
    assert not results.parity_failed()
    assert not results.runtime_failed
    assert [(f.runtime, f.kind) for f in results.failures] == [("peer", "wrong")]
    assert {m.runtime for m in results.measurements} == {"fastdigit"}


def test_fastest_variant_that_is_right_counts() -> None:
    results = run_fakes(bench_fakes.FastVariantIsWrong, batches=(64,))
    assert not results.failures
    prepared = results.measurements[0].prepared
    assert prepared.variant == "slow"
    assert "0 of 512 labels differ" in prepared.rejected["fast"]


def test_nothing_is_compared_without_check() -> None:
    results = run_fakes(bench_fakes.OffByALittle, batches=(4,), check=False)
    assert not results.parity_failed()
    assert results.parity == []
    assert results.measurements[0].agreement is None


def test_run_goes_on_after_a_crash() -> None:
    results = run_fakes(bench_fakes.Right, bench_fakes.Segfaults, batches=(64, 1, 2))
    assert results.runtime_failed
    assert [(f.runtime, f.batch, f.kind, f.final) for f in results.failures] == [
        ("peer", 1, "failed", True)
    ]
    assert "SIGSEGV" in results.failures[0].message
    assert [(m.runtime, m.batch) for m in results.measurements] == [
        ("fastdigit", 64),
        ("peer", 64),
        ("fastdigit", 1),
        ("fastdigit", 2),
    ]
    assert [parity.runtime for parity in results.parity] == ["fastdigit"]


def test_runtime_may_fail_in_one_scenario_only() -> None:
    results = run_fakes(bench_fakes.RefusesBatch2, batches=(1, 2, 4))
    assert [(f.batch, f.final) for f in results.failures] == [(2, False)]
    assert [m.batch for m in results.measurements] == [1, 4]
    assert [parity.batch for parity in results.parity] == [4]


def test_runtime_that_never_ran_is_not_classified() -> None:
    results = run_fakes(bench_fakes.Right, bench_fakes.RefusesBatch2, batches=(2,))
    assert [parity.runtime for parity in results.parity] == ["fastdigit"]


def test_more_threads_than_cpus_is_an_error() -> None:
    with pytest.raises(InputError, match="100000 threads need 100000 CPUs"):
        run_fakes(bench_fakes.Right, threads=(100_000,))


def test_compare() -> None:
    reference = np.eye(4, 10, dtype=np.float32)
    assert compare(reference, reference).passed
    within = compare(reference + np.float32(FULL.difference / 2), reference)
    assert within.passed
    assert within.max_difference == pytest.approx(FULL.difference / 2, rel=0.1)
    other_label = compare(np.roll(reference, 1, axis=1), reference)
    assert (other_label.disagreements, other_label.passed) == (4, False)
    not_a_number = reference.copy()
    not_a_number[2, 5] = np.nan
    assert not compare(not_a_number, reference).passed
    with pytest.raises(ValueError, match=r"got shape \(4, 9\), expected \(4, 10\)"):
        compare(reference[:, :9], reference)


def test_compare_networks_of_8_bits() -> None:
    reference = np.eye(10, dtype=np.float32)[np.arange(200) % 10]
    other = reference.copy()
    other[:2] = np.roll(other[:2], 1, axis=1)
    agreement = compare(other, reference, EIGHT_BIT)
    assert (agreement.disagreements, agreement.max_difference) == (2, 1.0)
    assert agreement.passed
    other[2] = np.roll(other[2], 1)
    assert not compare(other, reference, EIGHT_BIT).passed
    other = reference.copy()
    other[0, 0] = np.nan
    assert not compare(other, reference, EIGHT_BIT).passed


def test_with_a_tolerance_accuracy_is_measured_in_each_scenario() -> None:
    data = images(tagged=(5,))
    results = run_fakes(
        bench_fakes.WrongOnTagged,
        bench_fakes.Peer,
        data=data,
        tolerance=EIGHT_BIT,
        sample=COUNT,
    )
    assert not results.parity_failed()
    assert not results.failures
    peer = bench_fakes.probabilities(data.images).argmax(axis=1)
    own = peer.copy()
    own[5] = (own[5] + 1) % 10
    for m in results.measurements:
        labels, differ = (own, 1) if m.runtime == "fastdigit" else (peer, 0)
        assert m.agreement is not None
        assert (m.agreement.images, m.agreement.disagreements) == (COUNT, differ)
        assert m.accuracy == (labels == data.labels).mean()


def test_accuracy_of_a_part_is_not_given() -> None:
    assert run_fakes(bench_fakes.Right, batches=(4,)).measurements[0].accuracy is None


def test_ratios_are_to_the_subject() -> None:
    results = run(
        [bench_fakes.Right, bench_fakes.Peer],
        FILES,
        images(),
        Settings(batches=(4,), rounds=3, warmup=0.0, budget=0.005),
        reference=bench_fakes.Reference,
        subject="peer",
    )
    own, peer = results.measurements
    assert results.ratio(peer) is None
    expected = [a.median / b.median for a, b in zip(own.turns, peer.turns, strict=True)]
    ratio = results.ratio(own)
    assert ratio is not None and ratio.median == pytest.approx(np.median(expected))


def test_the_machine_is_measured_before_each_round() -> None:
    probe = bench_fakes.FakeProbe()
    results = run(
        [bench_fakes.Right],
        FILES,
        images(),
        Settings(batches=(1, 4), rounds=3, warmup=0.0, budget=0.005),
        reference=bench_fakes.Reference,
        probe=probe,  # type: ignore[arg-type]
    )
    assert results.roofline is not None
    assert results.roofline.samples == len(probe.samples) == 2 * 3
    assert results.roofline.state == "quiet"
    assert run_fakes(bench_fakes.Right, batches=(4,)).roofline is None


def test_digits_are_the_test_digits_in_another_order() -> None:
    data, (pixels, labels) = digits(), load_mnist_test()
    assert data.labels is not None
    assert data.images.dtype == np.float32
    assert data.images.shape == (10_000, 28, 28, 1)
    assert (data.images.min(), data.images.max()) == (0, 1)
    assert not (data.labels == labels).all()

    def pairs(images: np.ndarray, labels: np.ndarray) -> list[tuple[int, bytes]]:
        return sorted(zip(labels.tolist(), map(bytes, images.reshape(-1, 784)), strict=True))

    restored = np.round(data.images * 255).astype(np.uint8)
    assert pairs(restored, data.labels) == pairs(pixels, labels)


def test_noise_has_no_labels_and_no_blank_area() -> None:
    data = noise(count=100)
    assert data.labels is None
    assert data.images.shape == (100, 28, 28, 1)
    assert (data.images == 0).mean() < 0.001
    assert 0 <= data.images.min() <= data.images.max() < 1
