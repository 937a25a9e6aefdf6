import torch

from mmsagan.analysis.profiling import OperatorTime, profile_action, profile_table


def test_the_longest_operator_comes_first():
    matrix, vector = torch.rand(512, 512), torch.rand(512)

    def action():
        for _ in range(3):
            matrix @ matrix
        vector + vector

    operators = profile_action(action)
    found = {operator.name: operator for operator in operators}
    assert operators[0].name == 'aten::mm' and found['aten::mm'].calls == 3 and found['aten::add'].calls == 1
    assert abs(sum(operator.share for operator in operators) - 1) < 1e-9
    assert 0 < found['aten::add'].seconds < found['aten::mm'].seconds


def test_the_table_adds_up():
    operators = [OperatorTime('a', 3.0, 0.6, 1), OperatorTime('b', 1.5, 0.3, 2), OperatorTime('c', 0.5, 0.1, 2000)]
    lines = profile_table(operators, 1).splitlines()
    assert lines[-2].split() == ['a', '3.000', '60.0%', '1']
    assert lines[-1].split() == ['others', '2.000', '40.0%', '2,002']
    assert 'others' not in profile_table(operators, 3)
