import logging
import subprocess
import sys

import pytest

from pretrain.redaction import MASK, RedactingFormatter, redact, redacted, secret_name

SECRETS = [
    ("https://alice:s3cr3tpw@host.org/x-{0..9}.tar", "s3cr3tpw"),
    ("https://alice:p@ssw0rd@host.org/x.tar", "ssw0rd"),
    ("https://ghp0token@host/x.tar", "ghp0token"),
    ("s3://AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMIK7MDENG@bucket/x.tar", "wJalrXUtnFEMIK7MDENG"),
    ("https://b.s3.amazonaws.com/x.tar?X-Amz-Credential=AKIA%2F2026&X-Amz-Signature=deadbeef01", "deadbeef01"),
    ("https://b.s3.amazonaws.com/x.tar?X-Amz-Security-Token=IQoJb3JpZ2luX2Vj&x=1", "IQoJb3JpZ2luX2Vj"),
    ("https://a.blob.core.windows.net/c/x.tar?sv=2024&sig=Zm9vYmFy%3D&se=2026", "Zm9vYmFy"),
    ("https://storage.googleapis.com/b/x?GoogleAccessId=me@x.iam&Signature=abcDEF123", "abcDEF123"),
    ("https://h/x.tar?access_token=tok123456", "tok123456"),
    ("https://h/x.tar?a=1&api_key=tok123456#f", "tok123456"),
    ("pipe:curl -H 'Authorization: Bearer abcdef123456' https://h/x", "abcdef123456"),
    ("curl -H 'X-Api-Key: abcdef123456'", "abcdef123456"),
    ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("key AKIAIOSFODNN7EXAMPLE is wrong", "AKIAIOSFODNN7EXAMPLE"),
    ("aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
    ("AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
    ('{"api_key": "0123456789abcdef0123"}', "0123456789abcdef0123"),
    ("logger.wandb.api_key=0123456789abcdef", "0123456789abcdef"),
    ("data.password=hunter22", "hunter22"),
    ("hf_abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz"),
    ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "abcdefghijklmnopqrstuvwxyz"),
    ("glpat-abcdefghij_KLMNOPqrst", "KLMNOPqrst"),
    ("sk-proj-abcdefghijklmnopqrstuvwx", "abcdefghijklmnop"),
    ("xoxb-123456789012-abcdefghij", "abcdefghij"),
    ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "SyA1234567890"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N", "dozjgNryP4J3jVmNHl0w5N"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----", "MIIEpAIBAAKCAQEA7"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_credentials_are_known_by_their_form(text, secret):
    clean = redact(f"before {text} behind")
    assert secret not in clean
    assert MASK in clean
    assert clean.startswith("before ")
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "shards/own-{000000..000009}.tar",
        "s3://bucket/prefix/x-{0..9}.tar",
        "https://host.org/a@b/x.tar?download=1",
        "tokenizer=shards/own/tokenizer.json",
        "tasks.mlm.prepare.max_tokens=128",
        "unknown key 'optimizer.lr'; choices: betas, eps, lr",
        "step 12: mlm/loss is not finite",
        "key 'own-00012' in 'own-000000.tar': it is empty",
        "encoders.text.heads=3 does not divide width=16",
        "SHA-256 3f786850e387550fdab836ed7e6dc881de23001b instead of 89e6c98d92887913cadf06b2adb97f26cde4849b",
    ],
)
def test_what_is_no_credential_stays(text):
    assert redact(text) == text


def test_plain_values_are_cleaned_by_name_and_by_form():
    config = {
        "tasks": {"mlm": {"source": ["https://u:pw123456@h/x.tar", "a.tar"], "batch_size": 4}},
        "hub": {"hf_token": "anything", "password": "x", "max_tokens": 128, "mask_token": "[MASK]"},
        "trainer": {"deterministic": True, "none": None},
    }
    assert redacted(config) == {
        "tasks": {"mlm": {"source": ["https://***@h/x.tar", "a.tar"], "batch_size": 4}},
        "hub": {"hf_token": MASK, "password": MASK, "max_tokens": 128, "mask_token": "[MASK]"},
        "trainer": {"deterministic": True, "none": None},
    }


def test_values_of_the_environment_are_known_wherever_they_turn_up(monkeypatch):
    monkeypatch.setenv("MY_SERVICE_TOKEN", "plain words here")
    monkeypatch.setenv("OTHER_KEY", "plain")  # too short to tell from a word
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsehood")
    assert redact("project 'plain words here' of plain falsehood") == f"project '{MASK}' of plain falsehood"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", "/Jalr+UtnFEMI", True),
        ("AWS_SECRET_ACCESS_KEY", "~Jalr+UtnFEMI", True),
        ("DB_PASSWORD", "12345678", True),
        ("KEY_COUNT", "12345678", False),
        ("SSH_AUTH_SOCK", "/run/agent/sock.7", False),
        ("SSL_KEY_FILE", "/no/such/key.pem", False),
        ("SSL_KEYDIR", "/proc", False),
        ("MY_PASSWORD", "pyproject.toml", True),
    ],
)
def test_of_the_environment_paths_are_no_credentials_and_keys_are_no_paths(monkeypatch, tmp_path, name, value, secret):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setenv(name, value)
    assert redact(f"with {value} here") == f"with {MASK if secret else value} here"


@pytest.mark.parametrize(
    "text",
    [
        "curl -u joe:hunter22x https://x",
        "curl --user 'joe:hunter22x' https://x",
        "curl -H 'PRIVATE-TOKEN: hunter22x' https://x",
        "get --password hunter22x https://x",
    ],
)
def test_credentials_of_commands(text):
    assert "hunter22x" not in redact(text)
    assert redact(text).endswith("https://x")
    assert redact(redact(text)) == redact(text)


def test_numbers_are_credentials_under_such_a_name():
    assert redacted({"api_key": 123456, "auth_token": 1.5, "password": True, "steps": 3, "token": None}) == {
        "api_key": MASK,
        "auth_token": MASK,
        "password": True,
        "steps": 3,
        "token": None,
    }


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("password", True),
        ("aws_secret_access_key", True),
        ("hf_token", True),
        ("apiKey", True),
        ("max_tokens", False),
        ("tokenizer", False),
        ("token", True),
        ("keys", False),
        ("monkey", False),
        ("signature", True),
        ("author", False),
    ],
)
def test_names_of_credentials(name, secret):
    assert secret_name(name) == secret


def test_a_log_line_and_its_traceback_are_clean():
    logger = logging.getLogger("test_redaction")
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(RedactingFormatter("%(message)s").format(record))
    logger.addHandler(handler)
    try:
        raise ValueError("https://u:hunter22@h/")
    except ValueError:
        logger.exception("cannot open %s", "https://u:hunter22@h/x.tar")
    assert "hunter22" not in lines[0]
    assert "Traceback" in lines[0]


def test_what_ends_a_process_unforeseen_is_clean():
    code = "from pretrain.redaction import install; install(); raise ValueError('https://u:hunter22@h/')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "ValueError: https://***@h/" in done.stderr
    assert "hunter22" not in done.stderr
