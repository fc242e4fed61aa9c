import numpy as np
import pytest
import torch

from madcluster.study.claims import ClaimError, claim, glue


def test_what_holds_says_nothing(capsys):
    claim("two is more than one", 2 > 1)
    claim("all are positive", np.array([1, 2]) > 0)
    claim("of one element", np.bool_(True))
    claim("of a tensor", torch.tensor([True, True]))
    assert capsys.readouterr().out == ""


def test_what_does_not_hold_stops_the_build(monkeypatch):
    monkeypatch.setenv("MADCLUSTER_CLAIMS", "strict")
    with pytest.raises(ClaimError, match=r"one is more than two\. The output does not$"):
        claim("one is more than two", 1 > 2)
    with pytest.raises(ClaimError, match=r"\(1 of 2\)"):
        claim("both are positive", np.array([1, -2]) > 0)


def test_elsewhere_it_is_only_said(monkeypatch, capsys):
    monkeypatch.delenv("MADCLUSTER_CLAIMS", raising=False)
    claim("both are positive", np.array([1, -2]) > 0)
    assert capsys.readouterr().out == (
        "Not so with these parameters (1 of 2): both are positive.\n"
    )


def test_no_evidence_is_no_claim(monkeypatch):
    monkeypatch.setenv("MADCLUSTER_CLAIMS", "strict")
    with pytest.raises(ClaimError):
        claim("all of none", np.array([], dtype=bool))


@pytest.mark.parametrize("holds", [1, 0.5, None, "yes", [1, 0]])
def test_a_claim_is_a_truth_value(holds):
    with pytest.raises(TypeError, match="true or false"):
        claim("something", holds)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), torch.tensor(2.0), "ahead"])
def test_numbers_and_words_can_be_glued(value):
    glue(name=value)


@pytest.mark.parametrize("words", ["*alone*", "`q`", "{term}`head`"])
def test_words_with_markup_would_be_shown_as_they_are(words):
    with pytest.raises(ValueError, match="verdict must be words without markup"):
        glue(verdict=words)


@pytest.mark.parametrize("value", [[1, 2], None, True, 1j, np.ones(2)])
def test_other_things_cannot_be_glued(value):
    with pytest.raises(TypeError, match="share must be a number or a word"):
        glue(share=value)


def test_what_is_not_a_number_is_not_said():
    with pytest.raises(ValueError, match="share is nan"):
        glue({"share": float("nan")})
