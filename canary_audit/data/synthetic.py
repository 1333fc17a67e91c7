"""Synthetic prose: small scenes in simple English, the same on every machine for the same seed.

For tests and for machines without a standard library to read. A paragraph stays with one scene and one person, so
there is more to learn than pairs of words. Changing a word or a rule changes every pinned hash: raise `VERSION` then.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

VERSION = 1
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Words that go together. `things` are singular nouns, `doings` verbs in the past tense that take a thing."""

    people: tuple[str, ...]
    places: tuple[str, ...]
    things: tuple[str, ...]
    doings: tuple[str, ...]
    qualities: tuple[str, ...]


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


def _scene(people: str, places: str, things: str, doings: str, qualities: str) -> Scene:
    return Scene(
        people=tuple(people.split()),
        places=_phrases(places),
        things=tuple(things.split()),
        doings=_phrases(doings),
        qualities=tuple(qualities.split()),
    )


_SCENES = (
    _scene(
        "captain sailor fisher pilot boatbuilder diver",
        "on the quay, below deck, beside the lighthouse, at the end of the pier, in the harbour, across the bay",
        "anchor rope sail lantern barrel net chart mast rudder oar buoy hull",
        "mended, hauled in, lowered, cleaned, tied down, painted, inspected, lost, carried off, traded",
        "wet heavy rusty broad weathered tarred slippery sound",
    ),
    _scene(
        "baker cook waiter grocer miller guest",
        "in the kitchen, near the oven, behind the counter, at the long table, in the cellar, by the window",
        "loaf kettle basket knife pie spoon apron jar bowl cake recipe plate",
        "baked, tasted, sliced, warmed, carried in, wrapped, spilled, shared, weighed, praised",
        "fresh sweet burnt warm salty golden crisp small",
    ),
    _scene(
        "gardener farmer shepherd beekeeper forester neighbour",
        "in the orchard, along the hedge, under the pear tree, behind the barn, in the far field, by the gate",
        "apple spade fence hive ladder wheelbarrow seedling scarecrow bucket root vine pumpkin",
        "planted, watered, dug up, trimmed, picked, covered, counted, repaired, dragged away, admired",
        "ripe muddy crooked green thorny wild early tall",
    ),
    _scene(
        "teacher student librarian caretaker principal writer",
        "in the library, at the blackboard, in the reading room, down the corridor, on the top shelf, in class",
        "book letter map pencil essay dictionary desk lesson notebook puzzle globe poem",
        "read, copied, explained, borrowed, corrected, hid, translated, remembered, finished, discussed",
        "difficult famous dusty short clever torn curious dull",
    ),
    _scene(
        "doctor nurse patient chemist surgeon visitor",
        "in the ward, at the front desk, in the waiting room, beside the bed, on the second floor, in the laboratory",
        "bandage bottle report scale pillow sample thermometer blanket needle bell chair remedy",
        "ordered, examined, labelled, changed, mixed, measured, prescribed, misplaced, tested, washed",
        "clean bitter careful pale sterile empty useful strong",
    ),
    _scene(
        "driver conductor engineer porter traveller guard",
        "on the platform, inside the tunnel, at the crossing, in the last carriage, beside the track, at the station",
        "ticket signal suitcase engine whistle timetable wheel bridge carriage lamp clock parcel",
        "checked, started, delayed, oiled, forwarded, stamped, unloaded, missed, stopped, replaced",
        "late steep noisy iron crowded narrow distant punctual",
    ),
    _scene(
        "painter singer carpenter weaver dancer potter",
        "in the workshop, on the stage, at the market, in the attic, below the balcony, in the old theatre",
        "brush song chair loom mask curtain violin vase frame costume drum statue",
        "made, sold, rehearsed, carved, polished, sketched, tuned, broke, framed, signed",
        "bright fragile ancient delicate striped hollow lively wooden",
    ),
    _scene(
        "judge lawyer clerk witness mayor inspector",
        "in the courtroom, before noon, in the town hall, on the marble steps, in the archive, behind closed doors",
        "case document seal petition verdict contract key file rule map statement vote",
        "signed, questioned, rejected, filed, defended, announced, drafted, sealed, doubted, revised",
        "legal formal secret lengthy doubtful final public fair",
    ),
)
_NAMES = (
    *(
        (name, "she")
        for name in _phrases("Clara, Ines, Maud, Petra, Rosa, Thea, Wilma, Ada, Nora, Edith, Judith, Selma")
    ),
    *(
        (name, "he")
        for name in _phrases("Anton, Bruno, Felix, Hugo, Jonas, Karl, Oskar, Paul, Simon, Viktor, Emil, Leo")
    ),
)
_TIMES = _phrases(
    "In the morning, After lunch, That evening, Before dawn, The next day, Last winter, Every spring, At midnight, "
    "A week later, During the storm, In those days, Once again, On the way home, At first, In the end, Years ago"
)
_MANNERS = _phrases(
    "slowly, quietly, with care, in haste, without a word, as usual, gladly, once more, by hand, too late, at last"
)
_ENDINGS = _phrases(
    "went home, fell asleep, began to laugh, said nothing, waited outside, felt proud, looked away, started again, "
    "changed the subject, asked for help, closed the door, stayed until dark, forgot about it, smiled"
)
_THINGS = _phrases(
    "box, coat, stone, candle, mirror, ring, blanket, hammer, shoe, hat, bag, drawing, cup, coin, feather, pillow, "
    "photograph, toy, stick, string, umbrella, present, flower, newspaper, button, brick, handkerchief, game, lock"
)
_QUALITIES = _phrases(
    "new, old, big, little, heavy, light, strange, beautiful, plain, blue, red, white, black, expensive, cheap, round, "
    "ordinary, missing, unusual, simple, warm, cold, long, thin, handsome, odd, perfect, borrowed"
)
_MOODS = _phrases(
    "young, tired, cheerful, nervous, patient, proud, silent, friendly, angry, kind, hungry, lonely, busy"
)
_REASONS = _phrases(
    "because it was getting dark, as nobody else would, as the bell rang, despite the rain, before anyone could ask, "
    "while the others slept, until the lamp went out, for no good reason, after a long talk, against the rules, "
    "so that the children could see it, as if nothing had happened, just as the guests arrived, to save time"
)
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "ten", "a dozen", "several", "many")
_SPEECH = ("said", "whispered", "shouted", "answered", "explained", "repeated", "insisted")


def synthetic_paragraphs(seed: int) -> Iterator[str]:
    """Paragraphs of three to seven sentences without end; `seed` decides all of them."""
    writer = _Writer(seed)
    while True:
        yield writer.paragraph()


class _Writer:
    def __init__(self, seed: int) -> None:
        digest = hashlib.sha256(f"synthetic prose {VERSION} {seed}".encode()).digest()
        # Python keeps the sequence of random() the same across versions, of no other method.
        self._random = random.Random(int.from_bytes(digest)).random  # noqa: S311  (prose, not a secret)

    def paragraph(self) -> str:
        scene = self._any(_SCENES)
        name, pronoun = self._often(_NAMES)
        sentences = [self._opening(scene, name)]
        for _ in range(2 + int(5 * self._random())):
            sentences.append(self._sentence(scene, name, pronoun))
        return " ".join(sentences)

    def _any(self, items: Sequence[Item]) -> Item:
        return items[int(len(items) * self._random())]

    def _often(self, items: Sequence[Item]) -> Item:
        """One of the items, the earlier the likelier, as words are in real text."""
        return items[int(len(items) * min(self._random(), self._random()))]

    def _opening(self, scene: Scene, name: str) -> str:
        role, place, thing = self._often(scene.people), self._any(scene.places), self._noun_phrase(scene)
        time, doing = self._often(_TIMES), self._often(scene.doings)
        return self._any(
            (
                f"{name} was {_with_article(role)}, and {time.lower()} {_with_article(thing)} was found {place}.",
                f"{time}, {name} the {role} {doing} the {thing} {place}.",
                f"There was once {_with_article(role)} called {name}, who {doing} the {thing}.",
            )
        )

    def _sentence(self, scene: Scene, name: str, pronoun: str) -> str:
        doing, thing, place = self._often(scene.doings), self._noun_phrase(scene), self._any(scene.places)
        manner, role, other = self._often(_MANNERS), self._often(scene.people), self._other(scene, name)
        plain, quality = self._plain_noun(scene), self._any((self._any(scene.qualities), self._often(_QUALITIES)))
        time, ending, number = self._often(_TIMES), self._often(_ENDINGS), self._often(_NUMBERS)
        reason, subject = self._often(_REASONS), self._often((pronoun, name))
        return self._often(
            (
                f"{time}, {subject} {doing} the {thing} {manner}.",
                f"{_capital(subject)} {doing} the {thing} {place}, and {other} {ending}.",
                f"{_capital(subject)} {doing} {_with_article(thing)} {reason}.",
                f"There were {number} {_plural(plain)} {place}, but none of them was {quality}.",
                f'"The {plain} is {quality}," {self._often(_SPEECH)} {other}.',
                f"When {other} {ending}, {subject} {doing} {_with_article(thing)}.",
                f"{_capital(other)} {doing} the {thing} {reason}, and {subject} {ending}.",
                f"Because the {plain} was so {quality}, {subject} {ending}.",
                f"Nobody knew who {doing} the {thing} {place}.",
                f'"Who {doing} my {plain}?" asked {name}, and the {role} {ending}.',
                f"{_capital(subject)} had seen {number} {quality} {_plural(plain)}, yet {pronoun} {ending}.",
            )
        )

    def _other(self, scene: Scene, name: str) -> str:
        """Somebody else: by name, or by role with or without a mood."""
        role, other = self._often(scene.people), self._any(_NAMES)[0]
        return self._any((other if other != name else f"that {role}", f"the {role}", f"the {self._any(_MOODS)} {role}"))

    def _plain_noun(self, scene: Scene) -> str:
        return self._often(scene.things) if self._random() < 0.7 else self._any(_THINGS)

    def _noun_phrase(self, scene: Scene) -> str:
        noun, quality = self._plain_noun(scene), self._any((self._any(scene.qualities), self._often(_QUALITIES)))
        return f"{quality} {noun}" if self._random() < 0.4 else noun


def _with_article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeio" or phrase.startswith("un") else "a ") + phrase


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return {"knife": "knives", "loaf": "loaves"}.get(noun, noun + "s")


def _capital(phrase: str) -> str:
    return phrase[0].upper() + phrase[1:]
