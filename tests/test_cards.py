"""The page's cards are what the mechanisms say of themselves now."""

import json

import attention_zoo as zoo
from experiments import cards

KEPT = {card["name"]: card for card in json.loads(cards.FILE.read_text())}


def test_cards_are_those_of_now():
    assert [*KEPT] == zoo.names()
    for name, kept in KEPT.items():
        facts = {key: value for key, value in kept.items() if key != "pictures"}
        assert facts == json.loads(json.dumps(cards.card(name))), "run python -m experiments.cards"


def test_every_card_has_a_picture_of_each_form():
    for name, kept in KEPT.items():
        forms = ["bidirectional", "causal"] if zoo.make(name).causal else ["bidirectional"]
        assert [*kept["pictures"]] == forms
    assert KEPT["local"]["pictures"] == cards.pictures("local"), "run python -m experiments.cards"
