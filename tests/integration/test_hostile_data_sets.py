"""Data sets that an attacker made: whoever opens them gets a named error, or what is really there."""

import os
import shutil
import subprocess
import sys

import pytest
from material import material_dir

import shardkit

DAMAGED = {
    "root-name-invalid-utf8": "Invalid UTF8",
    "table-width-null": "column width has empty places",
    "table-source-timestamp": "column source holds timestamp",
}


def command(*words):
    return subprocess.run([sys.executable, "-m", "shardkit.cli", *words], capture_output=True, text=True)


@pytest.mark.parametrize("name", DAMAGED)
def test_columns_of_other_kinds_are_errors_by_name(name, tmp_path):
    folder = material_dir("hostile", name)
    try:
        problems = " ".join(map(str, shardkit.verify(folder).problems))
    except shardkit.ManifestError as error:
        problems = str(error)
    assert DAMAGED[name] in problems
    with pytest.raises(shardkit.ManifestError, match=DAMAGED[name]):
        shardkit.unpack(folder, tmp_path / "out")
    for words in (["verify", folder], ["info", "--classes", folder], ["unpack", folder, tmp_path / "again"]):
        ran = command(*words)
        assert ran.returncode == 1, ran.stderr
        assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("signed-labels-column-lies", "in the shard and 0 in its table"),
        ("signed-same-shard-four-times", "the same samples are in the data set twice: shard 'train-000000.tar'"),
    ],
)
def test_what_an_attacker_signed_is_compared(name, said):
    problems = shardkit.verify(material_dir("hostile", name)).problems
    assert said in str(problems[0])


def test_names_cannot_command_a_terminal(tmp_path):
    folder = material_dir("hostile", "signed-class-names-with-escapes")
    for words in (["info"], ["verify"], ["explain", "--batch-size", "4"]):
        ran = command(words[0], folder, *words[1:])
        assert ran.returncode == 0, ran.stderr
        assert not {character for character in ran.stdout + ran.stderr if not character.isprintable()} - {"\n"}
    assert "\\x1b]0;pwned\\x07" in command("info", folder).stdout
    odd = tmp_path / "odd\x1b[2J"
    shutil.copytree(folder, odd)
    os.truncate(odd / "shards.parquet", 100)
    ran = command("info", odd)
    assert ran.returncode == 1
    assert "\x1b" not in ran.stderr
