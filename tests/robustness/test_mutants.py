"""mutants.txt: every change can still be made (`make mutants` runs the tests on each)."""

from robustness.mutants import apply, read_mutants
from support.runs import ROOT


def test_every_mutant_can_be_made() -> None:
    mutants = read_mutants()
    assert len(set(mutants)) == len(mutants) >= 60
    for mutant in mutants:
        assert apply(mutant, ROOT) != (ROOT / mutant.file).read_text()
        assert (ROOT / mutant.tests.split()[0]).is_file()
