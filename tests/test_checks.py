import math

import pytest
import torch

from hierpretrain.checks import (
    check_above_0,
    check_at_least_1,
    check_features,
    check_finite,
    check_flat,
    check_fraction,
    check_ks,
    check_not_below_0,
    check_one_of,
    check_one_width,
)


def test_options_in_range_pass():
    check_one_of("kind", None, (None, "pair"))
    check_above_0(temperature=1e-9, scale=3)
    check_not_below_0(margin=0.0, weight=2)
    check_fraction(lam=0, smoothing=1.0)
    check_at_least_1(k=1, batch_size=64)
    check_ks(())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_one_of("kind", "cat", (None, "pair", 3)), "kind must be None, 'pair' or 3; it is 'cat'"),
        (lambda: check_above_0(scale=1, temperature=0), "temperature must be above 0; it is 0"),
        (lambda: check_above_0(temperature=math.inf), "temperature must be above 0; it is inf"),
        (lambda: check_above_0(temperature=math.nan), "temperature must be above 0; it is nan"),
        (lambda: check_not_below_0(margin=-1e-9), "margin must be finite and not below 0; it is -1e-09"),
        (lambda: check_not_below_0(margin=math.nan), "margin must be finite and not below 0; it is nan"),
        (lambda: check_fraction(lam=1.5), "lam must be in 0 to 1; it is 1.5"),
        (lambda: check_fraction(lam=math.nan), "lam must be in 0 to 1; it is nan"),
        (lambda: check_at_least_1(k=0), "k must be at least 1; it is 0"),
        (lambda: check_above_0(temperature="0.1"), "temperature must be a number; it is '0.1'"),
        (lambda: check_not_below_0(margin=None), "margin must be a number; it is None"),
        (lambda: check_fraction(lam="half"), "lam must be a number; it is 'half'"),
        (lambda: check_at_least_1(k="3"), "k must be a whole number; it is '3'"),
        (lambda: check_at_least_1(times=2.0), "times must be a whole number; it is 2.0"),
        (lambda: check_at_least_1(times=0), "times must be at least 1; it is 0"),
        (lambda: check_ks((5, 1.5)), "every k of ks must be a whole number of at least 1; 1.5 is not"),
        (lambda: check_ks((True,)), "every k of ks must be a whole number of at least 1; True is not"),
        (lambda: check_ks(5), r"ks must be several numbers, such as \(1, 5\); they are 5"),
        (lambda: check_ks((5, 0)), "every k of ks must be a whole number of at least 1; 0 is not"),
    ],
)
def test_options_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(3, 2, dtype=int), r"labels must be \(3,\), .*their shape is \(3, 2\); .*pass one column"),
        (torch.zeros(2, dtype=int), r"labels must be \(3,\), .*their shape is \(2,\)"),
        (torch.zeros(3), r"must be integers, since ids above 2\^24 collide as float32; they are torch.float32"),
        (torch.zeros(3, dtype=bool), "must be integers.*torch.bool"),
        (torch.tensor([0, -1, -2]), r"ids from 0, or PAD \(-1\) for none; row 2 is -2"),
    ],
)
def test_malformed_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        check_flat(labels, 3)


def test_checks_pass_what_is_well_and_name_what_is_not():
    rows = torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=torch.float16)
    check_features(rows)
    check_finite(rows)
    check_one_width(2, 2, "rows", "others")
    for call, message in (
        (lambda: check_features(rows[0], "rows"), r"rows must be \(N, D\), .* their shape is \(2,\)"),
        (lambda: check_features(rows.int()), "features must be floating-point; they are torch.int32"),
        (lambda: check_finite(rows / rows, "rows"), "rows must be finite; row 0 is not"),
        (lambda: check_one_width(2, 1, "rows", "others"), "rows and others must .* they have 2 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
