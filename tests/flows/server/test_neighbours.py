"""Whether others can log in to a machine, and whether a server there asks for a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.server import ServerError, neighbours
from flows.server import password as module
from flows.server.neighbours import Account, Facts, facts_of_this_machine, why_shared
from flows.server.password import CHOICE, Need, choice_of_environment, need

ME = Account("me", 1000, "/bin/bash")
ROOT = Account("root", 0, "/bin/bash")
NOBODY = Account("nobody", 65534, "/usr/sbin/nologin")
OWN = (ROOT, ME, NOBODY, Account("postgres", 107, "/bin/bash"))


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        (Facts(1000), ""),
        (Facts(1000, OWN), ""),
        (Facts(1000, (*OWN, Account("service", 1001, "/usr/sbin/nologin"))), ""),
        (Facts(1000, (*OWN, Account("service", 1001, "/bin/false"))), ""),
        (Facts(1000, (*OWN, Account("bob", 1001, "/bin/zsh"))), "bob"),
        (Facts(1000, (*OWN, Account("bob", 1001, ""))), "bob"),
        (Facts(1000, (*OWN, Account("bob", 500, "/bin/sh"))), ""),
        (Facts(1000, (*OWN, Account("bob", 500, "/bin/sh")), uid_min=500), "bob"),
        (Facts(0, OWN), "me"),
        (Facts(1000, OWN, sources=("files", "systemd")), ""),
        (Facts(1000, OWN, sources=("files", "ldap")), "LDAP"),
        (Facts(1000, OWN, sources=("files", "winbind")), "Active Directory"),
        (Facts(1000, OWN, sources=("compat", "nis")), "NIS"),
        (Facts(1000, OWN, sources=("files", "sss"), sssd=True), "SSSD"),
        (Facts(1000, OWN, sources=("files", "sss"), sssd=False), ""),
        (Facts(1000, OWN, sssd=True), ""),
        (Facts(1000, OWN, commands=(("sbatch", "Slurm"),)), "sbatch"),
        (Facts(1000, OWN, sessions=frozenset({0, 107, 1000, 65534})), ""),
        (Facts(1000, OWN, sessions=frozenset({1000, 1004})), "1004"),
        (Facts(1000, OWN, sessions=frozenset({61184}), uid_max=60000), ""),
    ],
)
def test_who_makes_a_machine_a_shared_one(facts: Facts, named: str) -> None:
    why = why_shared(facts)
    assert bool(why) is bool(named)
    assert named in why


def test_many_accounts_are_told_in_a_line() -> None:
    others = tuple(Account(f"user{n}", 2000 + n, "/bin/bash") for n in range(50))
    assert "47 more" in why_shared(Facts(1000, others))


def machine(root: Path, **files: str) -> Path:
    """A folder with the files of a machine; `__` in a name is a slash."""
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_facts_are_read_from_the_files_of_the_machine(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        etc__passwd="root:x:0:0:root:/root:/bin/bash\n# odd\nbob:x:1001:1001::/home/bob:\n",
        etc__login_defs="# UID_MIN 5\nUID_MIN\t\t 500\nUID_MAX 59999\n",
        etc__nsswitch_conf="group: files nis\npasswd:  files [NOTFOUND=return] sss # ldap\n",
        etc__sssd__sssd_conf="[sssd]\n",
    )
    (root / "run" / "user" / "1001").mkdir(parents=True)
    found = facts_of_this_machine(root)
    assert found.accounts == (Account("root", 0, "/bin/bash"), Account("bob", 1001, ""))
    assert (found.uid_min, found.uid_max) == (500, 59999)
    assert found.sources[:2] == ("files", "sss")
    assert found.sssd
    assert 1001 in found.sessions


def test_plus_lines_in_passwd_are_accounts_of_the_network(tmp_path: Path) -> None:
    root = machine(tmp_path, etc__passwd="root:x:0:0:root:/root:/bin/bash\n+::::::\n")
    assert "nis" in facts_of_this_machine(root).sources


def test_a_machine_that_says_nothing_is_not_shared(tmp_path: Path) -> None:
    facts = facts_of_this_machine(tmp_path)
    assert (facts.accounts, facts.sources, facts.sessions) == ((), (), frozenset())
    assert not facts.sssd


def test_this_machine_can_be_asked() -> None:
    facts = facts_of_this_machine()
    assert facts.uid in facts.sessions
    assert any(account.uid == 0 for account in facts.accounts)


@pytest.mark.parametrize("shared", ["", "bob can log in here"])
@pytest.mark.parametrize(
    ("choice", "everywhere", "wanted"),
    [
        ("auto", False, None),
        ("auto", True, True),
        ("always", False, True),
        ("never", False, False),
        ("never", True, True),
    ],
)
def test_a_password_follows_from_the_choice_and_the_machine(
    monkeypatch: pytest.MonkeyPatch,
    choice: module.Choice,
    everywhere: bool,
    wanted: bool | None,
    shared: str,
) -> None:
    monkeypatch.setattr(module, "why_shared", lambda _: shared)
    found = need(choice, everywhere)
    assert found.password is (bool(shared) if wanted is None else wanted)
    assert found.why
    if wanted is None and shared:
        assert found == Need(True, shared)


def test_the_environment_chooses_where_there_are_no_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(CHOICE, raising=False)
    assert choice_of_environment() == "auto"
    monkeypatch.setenv(CHOICE, "Never")
    assert choice_of_environment() == "never"
    monkeypatch.setenv(CHOICE, "sometimes")
    with pytest.raises(ServerError, match="sometimes"):
        choice_of_environment()


def test_sources_of_the_network_have_a_name_for_people() -> None:
    assert all(neighbours.NETWORK_SOURCES.values())
