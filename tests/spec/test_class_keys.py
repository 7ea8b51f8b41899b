"""Classes by index or by name: one config, one key; what is no class is refused with the list."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.lab.attacks.badnets import BadNets
from engine.lab.attacks.gradient_matching import GradientMatching
from engine.lab.attacks.interclass_confusion import InterclassConfusion
from engine.lab.methods.gd import GD
from engine.spec import presets
from engine.spec.class_keys import ClassKey, class_index, class_keys
from engine.spec.component import Attack, DataInfo
from engine.spec.errors import BadInput
from engine.spec.plan import make_plan
from engine.spec.planned import Plan
from engine.spec.registry import registered

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
TARGETED = [  # (attack, its audit, keys by name, the same by index)
    ("badnets", "attack-success", {"target": "dog"}, {"target": 5}),
    ("blended", "attack-success", {"target": "dog"}, {"target": 5}),
    ("sig", "attack-success", {"target": "dog"}, {"target": 5}),
    (
        "gradient-matching",
        "targeted-success",
        {"adversarial": "dog", "true_class": "cat", "targets": 2},
        {"adversarial": 5, "true_class": 3, "targets": 2},
    ),
    (
        "interclass-confusion",
        "interclass-confusion",
        {"classes": ["dog", 3]},
        {"classes": [5, "cat"]},
    ),
]


def info(*classes: str) -> DataInfo:
    count = len(classes)
    return DataInfo("d", 100 * count, 10 * count, (3, 32, 32), classes, (100,) * count)


@pytest.fixture(autouse=True)
def ten_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded digits, each class called by CIFAR-10's name."""
    from engine.lab.data.mnist5k import Mnist5k

    plain = Mnist5k.inspect

    def inspect(self: Mnist5k) -> DataInfo:
        found = plain(self)
        return DataInfo(
            found.digest, found.train, found.test, found.shape, CLASSES, found.train_per_class
        )

    monkeypatch.setattr(Mnist5k, "inspect", inspect)


def planned(raw: dict[str, Any], *sets: str, **keys: Any) -> Plan:
    raw = raw | keys
    for one in sets:
        presets.set_dotted(raw, one)
    return make_plan(presets.validate(raw, "test"), "cpu")


@pytest.mark.parametrize(("name", "audit", "named", "indexed"), TARGETED)
def test_a_name_and_its_index_are_one_config_and_one_key(
    raw: dict[str, Any], name: str, audit: str, named: dict[str, Any], indexed: dict[str, Any]
) -> None:
    both = []
    for keys in (named, indexed):
        attacks = [{"name": name, "share": 0.05} | keys]
        both.append(planned(raw, attacks=attacks, audits=[{"name": "accuracy"}, {"name": audit}]))
    assert both[0] == both[1]
    for stage in both[0].stages.values():
        if stage.kind == "craft":
            told = [stage.config["attack"][key] for key in named if key != "targets"]
            assert all(
                isinstance(one, int) for v in told for one in (v if type(v) is list else [v])
            )


def test_a_phrase_has_a_target_by_name(raw: dict[str, Any]) -> None:
    raw |= {
        "data": {"name": "sentences"},
        "model": {"name": "gpt2", "size": "tiny"},
        "audits": [{"name": "attack-success"}],
    }
    model = presets.read_toml(presets.shipped()["backdoor-text"])["model"]
    both = [
        planned(raw, model=model, attacks=[{"name": "text-trigger", "target": target}])
        for target in ("positive", 1)
    ]
    assert both[0] == both[1]


def test_every_key_that_names_a_class_is_known() -> None:
    """A new attack with a plain `target: int` would take no name."""
    found = {name: keys for name, cls in registered("attack").items() if (keys := class_keys(cls))}
    assert found == {
        "badnets": ["target"],
        "blended": ["target"],
        "sig": ["target"],
        "text-trigger": ["target"],
        "gradient-matching": ["adversarial", "true_class"],
        "interclass-confusion": ["classes"],
    }
    for name, keys in found.items():
        for key in keys:
            description = registered("attack")[name].model_fields[key].description or ""
            assert "by its index or its name" in description


def test_a_grid_is_labelled_as_it_was_written(raw: dict[str, Any]) -> None:
    audits = [{"name": "attack-success"}]
    plan = planned(
        raw, attacks=[{"name": "badnets", "grid": {"target": ["dog", 3]}}], audits=audits
    )
    assert {cell.attack for cell in plan.cells} == {"badnets[target=dog]", "badnets[target=3]"}
    alone = planned(raw, attacks=[{"name": "badnets", "target": 5}], audits=audits)
    keys = {cell.key for cell in plan.cells if cell.attack == "badnets[target=dog]"}
    assert keys == {cell.key for cell in alone.cells}
    swapped = {"classes": [["dog", "cat"], [3, "ship"]]}
    plan = planned(
        raw,
        attacks=[{"name": "interclass-confusion", "grid": swapped}],
        audits=[{"name": "interclass-confusion"}],
    )
    assert len({cell.attack for cell in plan.cells}) == 2


@pytest.mark.parametrize(
    ("text", "same"), [("dog", 5), ('"dog"', 5), ("'dog'", 5), ("5", 5), (" dog ", 5)]
)
def test_the_command_line_takes_both(raw: dict[str, Any], text: str, same: int) -> None:
    raw |= {"attacks": [{"name": "badnets"}], "audits": [{"name": "attack-success"}]}
    plan = planned(raw, f"attacks.badnets.target={text}")
    assert plan == planned(raw, attacks=[{"name": "badnets", "target": same}])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"target": "dgo"}, ["attacks.badnets.target = 'dgo'", "'dog'?", "0 'airplane'", "9 'tr"]),
        ({"target": "Dog"}, ["Did you mean 'dog'?"]),
        ({"target": "5"}, ["'5'", "Without quotes, 5 is an index: class 'dog'"]),
        ({"target": ""}, ["target = ''", "no class is called that"]),
        ({"target": 10}, ["target = 10", "from 0 to 9 ('airplane' … 'truck')", "name"]),
        ({"target": -1}, ["target = -1", "from 0 to 9"]),
        ({"target": True}, ["target = True", "must be a class: its index", "or its name"]),
        ({"target": 1.5}, ["target = 1.5", "must be a class"]),
        ({"target": ["dog"]}, ["attacks[0].target: must be a class"]),
        ({"grid": {"target": ["dog", "dgo"]}}, ["target = 'dgo'", "'dog'"]),
        ({"grid": {"target": [2.5]}}, ["grid.target = 2.5", "must be a class"]),
    ],
)
def test_what_is_no_class_is_refused(
    raw: dict[str, Any], keys: dict[str, Any], told: list[str]
) -> None:
    raw |= {"attacks": [{"name": "badnets"} | keys], "audits": [{"name": "attack-success"}]}
    with pytest.raises(BadInput) as error:
        planned(raw)
    for words in told:
        assert words in str(error.value)


def test_two_names_of_one_class_are_no_pair(raw: dict[str, Any]) -> None:
    raw |= {"audits": [{"name": "accuracy"}]}
    with pytest.raises(BadInput, match=r"classes = \['dog', 5\]: both are class 5"):
        planned(raw, attacks=[{"name": "interclass-confusion", "classes": ["dog", 5]}])


def test_text_is_always_the_name_and_a_number_always_the_index() -> None:
    digits = info("1", "2", "10")
    assert BadNets(target="1").resolved(digits).target == 0
    assert BadNets(target=1).resolved(digits).target == 1
    assert BadNets(target="10").resolved(digits).target == 2
    same = BadNets(target=1)
    assert same.resolved(digits) is same


def test_a_name_that_two_classes_have_needs_an_index() -> None:
    with pytest.raises(BadInput, match=r"classes 0 and 2 are both called that; give an index"):
        BadNets(target="a").resolved(info("a", "b", "a"))


def test_an_index_that_is_another_classs_name_is_remarked_upon(
    raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw |= {"attacks": [{"name": "badnets", "target": 7}], "audits": [{"name": "attack-success"}]}
    assert planned(raw).remarks == []
    monkeypatch.setattr(f"{__name__}.CLASSES", tuple(str(number) for number in range(1, 11)))
    (remark,) = planned(raw).remarks
    assert "attacks.badnets.target = 7 is an index and means class '8'" in remark
    assert "the class called '7' is written \"7\"" in remark


def test_a_name_that_was_not_looked_up_is_loud() -> None:
    with pytest.raises(TypeError, match="'dog' has not been looked up"):
        BadNets(target="dog").selection()
    with pytest.raises(TypeError, match="looked up"):
        GradientMatching(adversarial="dog").units(info("cat", "dog"), 0)
    with pytest.raises(TypeError, match="looked up"):
        InterclassConfusion(classes=("cat", "dog")).selection()


def test_a_third_partys_attack_takes_names_by_its_annotation_alone() -> None:
    class Foreign(Attack):
        name: Literal["foreign"] = "foreign"
        victims: tuple[ClassKey, ...] | None = ("dog", 0)
        phrase: str = "dog"
        count: int = 7

    class Plain(Attack):
        name: Literal["plain"] = "plain"
        target: int = 3

    found = Foreign().resolved(info("cat", "dog"))
    assert (found.victims, found.phrase, found.count) == ((1, 0), "dog", 7)
    assert Foreign(victims=None).resolved(info("cat", "dog")).victims is None
    with pytest.raises(BadInput, match=r"attacks\.foreign\.victims = 'eel'"):
        Foreign(victims=("eel",)).resolved(info("cat", "dog"))
    plain = Plain()
    assert plain.resolved(info("cat", "dog")) is plain


def test_a_tuned_key_that_names_a_class_is_looked_up_too(raw: dict[str, Any]) -> None:
    from engine.spec.searching import _known

    class Spares(GD):
        spared: ClassKey = 0
        search: ClassVar = {"spared": ("dog", 3)}

    class Setting:
        info = info(*CLASSES)

    tried = [{"spared": "dog"}, {"spared": 3}]
    assert _known(Spares(), tried, Setting()) == [{"spared": 5}, {"spared": 3}]  # type: ignore[arg-type]


@given(st.lists(st.text(max_size=8), min_size=1, max_size=40, unique=True), st.data())
def test_every_name_finds_its_index(classes: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(classes))
    assert class_index(name, classes, "x") == classes.index(name)
    other = data.draw(st.text(max_size=8).filter(lambda text: text not in classes))
    with pytest.raises(BadInput):
        class_index(other, classes, "x")
