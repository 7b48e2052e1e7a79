from __future__ import annotations

import re
from datetime import time
from pathlib import Path

import pytest

import distbackupd.config.settings as module
from distbackupd.config.settings import Settings, load_settings
from distbackupd.model.errors import UsageError

SAMPLE = Path(__file__).parents[3] / "packaging" / "distbackupd.toml"


def test_settings_defaults_are_plain_numbers() -> None:
    settings = Settings()
    assert settings.keep_deleted_seconds == 30 * 86_400
    assert settings.scan_at_time == time(3, 0)
    assert settings.settle_seconds == 5
    assert settings.verify_share_fraction == 0.05
    assert settings.verify_time_seconds == 600
    assert settings.watch
    assert settings.mount_folder == "/run/distbackup-mnt"


def test_load_settings_default_file_missing_gives_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_FILE", tmp_path / "none.toml")
    assert load_settings(None) == Settings()
    assert load_settings(tmp_path / "none.toml") == Settings()


def test_load_settings_named_file_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        load_settings(tmp_path / "none.toml")


def test_load_settings_all_keys_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "all.toml"
    file.write_text(
        'keep_deleted = "0"\nscan_at = "04:30"\nsettle = "1min"\nverify_share = "0"\nverify_time = "1h"\n'
        'watch = false\nmount_folder = "/mnt/backup"\n'
    )
    settings = load_settings(file)
    assert settings == Settings(
        keep_deleted="0",
        scan_at="04:30",
        settle="1min",
        verify_share="0",
        verify_time="1h",
        watch=False,
        mount_folder="/mnt/backup",
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('scan_at = "25:00"', 'scan_at = "25:00" is no time of day; write it like "03:00"'),
        ('keep_deleted = "-5d"', 'keep_deleted = "-5d" is no duration; write it like "30d"'),
        ("keep_deleted = 30", 'keep_deleted = 30 must be a text in quotes, such as "30d"'),
        ("scan_at = 03:00:00", 'scan_at = 03:00:00 must be a text in quotes, such as "03:00"'),
        ('watch = "yes"', 'watch = "yes" must be either true or false'),
        ('keep_delted = "30d"', "there is no setting 'keep_delted'; there are keep_deleted, scan_at"),
        ("[disks]\nx = 1", "there is no setting 'disks'"),
        ('"a\\nb" = 1', "there is no setting 'a\\nb'"),
        (f"protect_copies = {'[' * 5000}", "is not written as TOML: "),
        (f"protect_copies = {'1' * 5000}", "is not written as TOML: "),
        (f'scan_at = "{"x" * 100_000}"', f'scan_at = "{"x" * 299}… is no time of day'),
        ('verify_share = "120%"', 'verify_share = "120%" is no share'),
        ('mount_folder = "mnt"', 'mount_folder = "mnt" is no absolute path'),
        ("settle = 5 s", "is not written as TOML: Expected newline or end of document after a statement (at line 1"),
        ('settle = "5s"\nsettle = "6s"', "is not written as TOML: Cannot overwrite a value"),
    ],
)
def test_load_settings_bad_file_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_settings(file)
    assert str(caught.value).startswith(f"{file}: {sentence}")
    assert "\n" not in str(caught.value)


def test_load_settings_no_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "latin.toml"
    file.write_bytes(b'settle = "5s" # f\xfcnf')
    with pytest.raises(UsageError, match="is no UTF-8 text, at byte 17"):
        load_settings(file)


def test_load_settings_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)


def test_sample_as_shipped_says_the_defaults() -> None:
    assert load_settings(SAMPLE) == Settings()


def test_sample_uncommented_names_every_setting_with_its_default(tmp_path: Path) -> None:
    file = tmp_path / "sample.toml"
    file.write_text(re.sub(r"(?m)^# (?=\w+ = )", "", SAMPLE.read_text()))
    assert load_settings(file) == Settings()
    assert all(re.search(rf"(?m)^{key} = ", file.read_text()) for key in Settings.__struct_fields__)
