"""Sentences of daily life, made up: what novels and almanacs do not say, with names, numbers, times and orders."""

import argparse
import random
import re
from pathlib import Path

_WORDS = {
    "name": "Anna Ben Carla David Emma Frank Grace Henry Ivy Jack Karen Liam Maria Nathan Olivia Peter Quentin Rachel "
    "Sam Tina Ursula Victor Wendy Xavier Yvonne Zoe Ahmed Mei Priya Kofi Elena Igor Fatima Hiroshi Lucy Tom Alice "
    "Michael Jennifer Robert Linda James Susan George Laura Kevin Julia Oscar Daisy",
    "place": "London|New York|the station|the airport|school|the office|the kitchen|Chicago|the library|the hospital|"
    "the park|Paris|the supermarket|the river|my room|the garden|Boston|the beach|the old bridge|the village|Tokyo|"
    "the zoo|the market|Texas|the post office|the third floor|the corner shop|the museum|Scotland|the farm",
    "thing": "book|phone|umbrella|key|bag|ticket|letter|bicycle|camera|blue coat|cup|guitar|map|picture|hat|box|ring|"
    "computer|chair|newspaper|football|kite|torch|blanket|yellow pencil|clock|wallet|jacket|radio|lamp|knife|spoon",
    "food": "apples|bread|chicken soup|rice|a cup of tea|noodles|ice cream|cheese|fish and chips|an orange|chocolate|"
    "some milk|eggs|a sandwich|fried potatoes|strawberries|pizza|black coffee|a glass of water|vegetables|cake|grapes",
    "animal": "dog|cat|horse|rabbit|monkey|tiger|elephant|bird|mouse|duck|sheep|frog|lion|panda|snake|goat|fox|whale",
    "person": "mother|father|brother|sister|teacher|doctor|uncle|aunt|neighbour|boss|best friend|cousin|grandmother|"
    "grandfather|little boy|driver|dentist|nurse|policeman|waiter|girlfriend|husband|wife|son|daughter",
    "number": "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|eighteen|"
    "twenty|twenty one|thirty|thirty five|forty|fifty|sixty two|seventy|eighty|ninety nine|a hundred|two hundred",
    "time": "one o'clock|two o'clock|half past three|a quarter to four|five thirty|six in the morning|seven p.m|"
    "eight fifteen|noon|midnight|ten to nine|eleven o'clock|twenty past two|four forty five",
    "day": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|tomorrow|today|next week|this morning|tonight|"
    "the third of May|the first of January|Christmas|my birthday|the weekend|June the twelfth|next October",
    "adj": "happy|tired|angry|beautiful|dangerous|expensive|quiet|strange|clever|hungry|funny|careful|lonely|brave|"
    "difficult|wonderful|terrible|warm|cold|empty|famous|important|lazy|proud|sick|young|very big|too small|broken",
    "verb": "find|carry|open|fix|buy|borrow|watch|draw|bring|hide|clean|lose|sell|break|throw away|look for|pick up",
    "past": "found|carried|opened|fixed|bought|borrowed|watched|drew|brought|hid|cleaned|lost|sold|broke|dropped|kept",
    "action": "play football|go swimming|read a story|sing a song|wash the dishes|go home|learn English|take a photograph|"
    "ride a bike|call a taxi|do my homework|watch television|go shopping|wait outside|sit down|stand up|listen to music|"
    "run faster|climb that tree|make a cake|take the bus|feed the birds|tell the truth|close the door|turn off the light",
    "weather": "raining|snowing|sunny|windy|cloudy|foggy|freezing|getting dark|very hot|much colder",
    "why": "because it is late|because of the rain|so that we can leave|if you have time|when you are ready|before dinner|"
    "after the film|until I come back|although nobody asked|as soon as possible|while you sleep|since last year",
    "much": "very much|a lot|a little|not at all|every day|sometimes|never|once a week|all the time|hardly ever",
    "app": "Computer|Operator|Hello there|Excuse me|Listen|Look|Well|Okay|Please|Oh no|Of course|Sorry|Yes|No|Thanks",
}
_PATTERNS = (
    """
I {past} the {thing} in {place}.|Where is my {thing}?|Can you {action}, {name}?|My {person} likes {food} {much}.
{name} and {name} went to {place} on {day}.|It is {weather} in {place} {day}.|Do you want to {action} with us?
{app}, can I have {food}, please?|The {animal} is {adj}, but the {animal} is {adj}.|We need {number} of them by {time}.
She is {number} years old.|He {past} {number} of them at {time}.|What time is it? It is {time}.|I am so {adj} today.
Don't {verb} that {thing}!|Let's {action} {why}.|How much is the {thing}? It is {number} dollars.|I have never been to {place}.
Would you like {food} or {food}?|There are {number} {adj} people at {place}.|My {person} is a {adj} {person}.
{app}, {name} isn't here, she is at {place}.|Did you {verb} the {thing} yesterday?|{name} told me to {action} {why}.
I'd like to {action}, but I am {adj}.|Which {animal} do you like best?|They're going to {place} at {time} {day}.
{app}, call {name} at {number} {number} {number}.|Send a message to my {person}.|Remind me to {action} on {day}.
Turn left at {place} and walk {number} minutes.|The {thing} that you {past} is {adj}.|Who {past} my {thing}?
I don't know why the {person} is {adj}.|If it is {weather}, we won't {action}.|You can't {action} here, {name}.
{name}, please {verb} the {thing} for your {person}.|We've got {food} and {food} for dinner.|Is the {animal} {adj} or {adj}?
I saw a {animal} near {place}, and it was {adj}.|That's {adj}.|It's not {adj}, it's {adj}.|{name} is my {person}.
The meeting is on {day} at {time}.|I think {name} would {action} {why}.|Could you tell me the way to {place}?
You should {action} {much}.|Nobody {past} the {thing} {why}.|My {thing} is {adj}.|What a {adj} {animal}!
The {person} said that {number} was too many.|Are you {adj}?|I'm sorry, I {past} your {thing}.|{app}.|{day} is fine.
Have you ever seen a {adj} {animal}?|There's a {thing} on the table and a {thing} under the bed.|{name} lives in {place}.
When did you {verb} it?|She has {number} brothers and {number} sisters.|I will {action} {day}.|He likes to {action}.
The {adj} {person} {past} a {adj} {thing} {why}.|Give me {number} minutes, {name}.|Never {verb} what you can't {verb}.
""".strip()
    .replace("\n", "|")
    .split("|")
)
_CHOICES = {key: value.split("|") if "|" in value else value.split() for key, value in _WORDS.items()}


def sentence(chance: random.Random) -> str:
    """One sentence, its first letter a capital."""
    pattern = chance.choice(_PATTERNS)
    text = re.sub(r"\{(\w+)\}", lambda slot: chance.choice(_CHOICES[slot[1]]), pattern)
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[0].upper() + text[1:]


def main() -> None:
    """``python -m training.everyday``: so many different sentences, one a line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    chance = random.Random(0)  # noqa: S311 - no secret
    made: dict[str, None] = {}
    while len(made) < arguments.count:
        made[sentence(chance)] = None
    arguments.out.write_text("\n".join(made) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
