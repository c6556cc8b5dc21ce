"""Compares `otpost check-number` with Google's library, as the PyPI package `phonenumbers` has it.

    python3 -m venv target/numbers && target/numbers/bin/pip install phonenumbers==9.0.33
    target/numbers/bin/python tests/compare/phone_numbers.py --binary target/debug/otpost

The version is that of the numbering plans in `Cargo.lock` (`phonenumber`, behind the `+`): another one may know other
plans. Numbers are made from the library's examples of each kind: with other digits at the end, one digit more or less,
or others in front; written with `+`, or as people of the country write them. Exit code 1 if any answer differs that no rule
of ours explains.
"""

import argparse
import collections
import json
import os
import random
import subprocess
import sys
import time
import unicodedata

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType

COUNTRIES = "CO MX AR BR CL PE EC VE US CA ES FR DE IT GB NL PT IN JP ZA".split()
# For the time that numbers of many countries take.
MORE = (
    "AT AU BE BG BO CH CN CR CU CZ DK DO EG FI GR GT HK HN HR HU ID IE IL KE KR MA MY NG NI NO NZ PA PH PK PL PY RO RS RU SA SE "
    "SG SV TH TR TW UA UY VN"
).split()
KINDS = [
    PhoneNumberType.MOBILE,
    PhoneNumberType.FIXED_LINE,
    PhoneNumberType.TOLL_FREE,
    PhoneNumberType.PREMIUM_RATE,
    PhoneNumberType.VOIP,
    PhoneNumberType.PERSONAL_NUMBER,
    PhoneNumberType.SHARED_COST,
    PhoneNumberType.UAN,
]
WORDS = {
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.FIXED_LINE: "landline",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "mobile_or_landline",
}
# The territories that share their neighbour's numbers.
NEIGHBOURS = {"AX": "FI", "SJ": "NO"}


def examples(country):
    for kind in KINDS:
        number = phonenumbers.example_number_for_type(country, kind)
        if number is not None:
            yield phonenumbers.national_significant_number(number)


def mutated(national, chance):
    """A national number near another one: mostly of its range, sometimes just outside the plan."""
    digits = list(national)
    how = chance.random()
    if how < 0.55:
        for at in range(max(1, len(digits) - chance.choice([2, 4, 6])), len(digits)):
            digits[at] = chance.choice("0123456789")
    elif how < 0.75:
        digits[chance.randrange(len(digits))] = chance.choice("0123456789")
    elif how < 0.85:
        digits.append(chance.choice("0123456789"))
    elif how < 0.95:
        digits.pop()
    else:
        digits[0] = chance.choice("0123456789")
    return "".join(digits)


def written(country, national, chance):
    """The national number as a person could write it."""
    code = phonenumbers.country_code_for_region(country)
    if chance.random() < 0.6:
        return f"+{code}{national}"
    number = phonenumbers.PhoneNumber(country_code=code, national_number=int(national))
    if national.startswith("0"):
        number.italian_leading_zero = True
        number.number_of_leading_zeros = len(national) - len(national.lstrip("0"))
    form = chance.choice([PhoneNumberFormat.NATIONAL, PhoneNumberFormat.INTERNATIONAL, None])
    return national if form is None else phonenumbers.format_number(number, form)


# Zeros of digits in other scripts.
ZEROS = "０٠۰०"
# What may stand between digits, and around a number.
BETWEEN = "\u0009\u2007\u2009\u202f \u00a0\u3000-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d\uff0e\uff0f./~\u223c\uff5e\u2053\u00ad\u200b\u2060"
INVISIBLE_INSIDE = "\ufeff\u202d\u200c\u200f\u2066\u061c\n"
AROUND = [
    ("\u202d", "\u202c"), ("\u2066", "\u2069"), ("\ufeff", ""), ("\u200e", "\u200f"), ("", "\n"), ("\t", "\r\n"), ("(", ")"),
    ("<", ">"), ('"', '",'), ("", "."), ("\u00a0", "\u00a0"), ("[", "]"), ("（", "）"), ("", "#"), ("*", ""), ("tel:", ""), ("", ";ext=1"),
]


def pasted(text, chance):
    """The number as it comes out of a document, a chat or a spreadsheet."""
    how = chance.random()
    if how < 0.25:
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(BETWEEN) + text[at:]
    elif how < 0.35:
        zero = ord(chance.choice(ZEROS))
        text = "".join(chr(zero + int(c)) if c in "0123456789" else c for c in text)
    elif how < 0.45 and text.startswith("+"):
        text = chance.choice(["＋", "++", "(+", "+ ", "+(", "+ +"]) + text[1:]
    elif how < 0.5:
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(INVISIBLE_INSIDE) + text[at:]
    elif how < 0.75:
        before, behind = chance.choice(AROUND)
        text = before + text + behind
    return text


def bare(text):
    """What is left of a number's text for that library: more spaces than its own and invisible marks stand between digits here."""
    text = "".join(" " if c == "\t" or unicodedata.category(c) == "Zs" else c for c in text)
    return "".join(c for c in text if unicodedata.category(c) != "Cf")


def google(text, country):
    text = bare(text)
    try:
        number = phonenumbers.parse(text, country)
    except NumberParseException:
        return {"valid": False}
    if not phonenumbers.is_valid_number(number):
        return {"valid": False}
    region = phonenumbers.region_code_for_number(number)
    return {
        "valid": True,
        "formatted": phonenumbers.format_number(number, PhoneNumberFormat.E164),
        "region": NEIGHBOURS.get(region, region),
        "type": WORDS.get(phonenumbers.number_type(number), "other"),
    }


def ask(binary, texts, country):
    environment = {
        "PATH": os.environ["PATH"],
        "ENVIRONMENT": "development",
        "DEFAULT_REGION": country,
        "SMS_ALLOWED_COUNTRIES": "*",
    }
    asked = subprocess.run(
        [binary, "--json", "check-number", "--", *texts], capture_output=True, text=True, env=environment, check=False
    )
    if asked.returncode not in (0, 3):
        sys.exit(f"{binary} ended with {asked.returncode}: {asked.stderr}")
    return json.loads(asked.stdout)


def rule(text, country, ours, theirs):
    """The rule of ours that explains a difference, if one does."""
    if ours["valid"] or not theirs["valid"]:
        return None
    digits = "".join(str(unicodedata.decimal(c)) for c in text if c.isdecimal())
    if any(c.isalpha() and c != "\u30fc" for c in text):
        return "letters are not read as keypad digits"
    has_plus = next((c for c in text if c.isalnum() or c in "+＋*#"), "") in ("+", "＋")
    if not has_plus and digits.startswith("00"):
        return "00 is not read as +"
    if set(text) & set("~\uff5e"):
        return "a tilde may begin an extension"
    if set(text) & set("*#"):
        return "codes that a telephone network carries out, as *67 and #31#"
    if not has_plus and theirs["region"] != country:
        return "a number without + is one of DEFAULT_REGION or none"
    if len(theirs["formatted"]) > 16:
        return "E.164 has 15 digits at most"
    code = str(phonenumbers.country_code_for_region(country))
    national = theirs["formatted"][1 + len(code) :]
    if not digits.endswith(national):
        return "digits are never rewritten, as the Argentine 15 to a 9"
    if country == "BR" and national.startswith("90"):
        return "a Brazilian number that begins with 90, which the crate takes for a prefix: none of them is a mobile"
    if digits[: len(digits) - len(national)] not in ("", code):
        return "only the country code or the plain trunk prefix is taken away"
    return None


def compare(binary, per_country, chance):
    counts, explained, odd = collections.Counter(), collections.Counter(), []
    for country in COUNTRIES:
        known = list(examples(country))
        texts = [written(country, mutated(chance.choice(known), chance), chance) for _ in range(per_country)]
        texts += [pasted(written(country, chance.choice(known), chance), chance) for _ in range(per_country)]
        for text, ours in zip(texts, ask(binary, texts, country), strict=True):
            theirs = google(text, country)
            counts["valid" if theirs["valid"] else "not valid"] += 1
            same = ours["valid"] == theirs["valid"] and all(ours.get(key) == theirs[key] for key in theirs)
            if same:
                continue
            why = rule(text, country, ours, theirs)
            if why:
                explained[why] += 1
            else:
                odd.append((country, text, {k: ours.get(k) for k in ("valid", "formatted", "region", "type", "why_not")}, theirs))
    return counts, explained, odd


def pace(binary, countries, chance, count):
    """Milliseconds a number, over numbers of so many countries in turn, beyond what a start takes."""
    numbers = [
        f"+{phonenumbers.country_code_for_region(c)}{phonenumbers.national_significant_number(phonenumbers.example_number_for_type(c, PhoneNumberType.MOBILE))}"
        for c in countries
    ]
    took = []
    for texts in (numbers, numbers * (1 + count // len(numbers))):
        started = time.monotonic()
        ask(binary, texts, "CO")
        took.append((time.monotonic() - started, len(texts)))
    (first, few), (all_of_them, many) = took
    return first * 1000, (all_of_them - first) * 1000 / (many - few)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--per-country", type=int, default=250)
    arguments.add_argument("--seed", type=int, default=20261122)
    arguments.add_argument("--pace", action="store_true", help="measure the time of a number over 1 to 69 countries")
    asked = arguments.parse_args()
    chance = random.Random(asked.seed)
    counts, explained, odd = compare(asked.binary, asked.per_country, chance)
    total = sum(counts.values())
    print(f"phonenumbers {phonenumbers.__version__}: {total} numbers of {len(COUNTRIES)} countries, {dict(counts)}")
    for why, count in explained.most_common():
        print(f"{count:6} stricter here: {why}")
    for country, text, ours, theirs in odd[:40]:
        print(f"DIFFERS {country} {text!r}\n   ours   {ours}\n   theirs {theirs}")
    print(f"{len(odd):6} differ without a rule that explains it")
    if asked.pace:
        every = COUNTRIES + MORE
        for count in (1, 10, 20, 40, 50, len(every)):
            first, each = pace(asked.binary, every[:count], chance, 3_000)
            print(f"{count:3} countries: {first:7.0f} ms for a start and one number of each, then {each:6.3f} ms a number")
    sys.exit(1 if odd else 0)


if __name__ == "__main__":
    main()
