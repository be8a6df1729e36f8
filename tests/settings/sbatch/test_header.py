"""Lines with `#SBATCH`, read as sbatch of Slurm 22.05 reads them (where it was tried, by it)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimspax_core.settings.sbatch import quantities
from aimspax_core.settings.sbatch.header import Directive, JobHeader


def _read(text: str) -> dict[str, str | None]:
    return {one.name: one.value for one in JobHeader.parse(text).directives}


def _mistakes(text: str) -> list[str]:
    with pytest.raises(ValueError, match="line ") as caught:
        JobHeader.parse(text)
    return str(caught.value).splitlines()


# What is an option


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("#SBATCH --nodes=2", {"nodes": "2"}),
        ("#SBATCH --nodes 2", {"nodes": "2"}),
        ("#SBATCH -N 2", {"nodes": "2"}),
        ("#SBATCH -N2", {"nodes": "2"}),
        ("#SBATCH\t-N2", {"nodes": "2"}),
        ("#SBATCH-N2", {"nodes": "2"}),
        ("#SBATCH -N2 -t 10 --mem=1G", {"nodes": "2", "time": "10", "mem": "1G"}),
        ("#SBATCH -t -1", {"time": "-1"}),
        ("#SBATCH -sN2", {"oversubscribe": None, "nodes": "2"}),
        ("#SBATCH --exclusive -N2", {"exclusive": None, "nodes": "2"}),
        ("#SBATCH --exclusive=user", {"exclusive": "user"}),
        ("#SBATCH --part=cpu", {"partition": "cpu"}),
        ("#SBATCH --tasks-per-node=3", {"ntasks-per-node": "3"}),
        ('#SBATCH --comment="a b"', {"comment": "a b"}),
        ("#SBATCH --comment='a # b'", {"comment": "a # b"}),
        ("#SBATCH --comment=a#b", {"comment": "a"}),
        ("#SBATCH --comment=a:b", {"comment": "a:b"}),
        (r"#SBATCH --comment='a\\b'", {"comment": "a\\b"}),
        (r'#SBATCH --comment="a\"b"', {"comment": 'a"b'}),
        (r"#SBATCH --comment=a\ -N2", {"comment": "a", "nodes": "2"}),
        ('#SBATCH --comment=""', {"comment": ""}),
        ('#SBATCH -J"a b"', {"job-name": "a b"}),
        ("#SBATCH -J=foo", {"job-name": "=foo"}),
        ("#SBATCH -N 1 # for now: one", {"nodes": "1"}),
    ],
)  # fmt: skip
def test_an_option_is_read_in_each_of_its_forms(text, options):
    assert _read(text) == options


@pytest.mark.parametrize("text", ["", "\n  \n", "#!/bin/bash", "##SBATCH -N2", "# one node", "#"])
def test_other_comments_and_blank_lines_are_no_options(text):
    header = JobHeader.parse(text)
    assert (header.directives, header.notes) == ((), ())


def test_an_option_behind_blanks_is_read_with_a_note():
    header = JobHeader.parse("  #SBATCH -N2")
    assert header.get("nodes") == "2"
    assert header.notes == ("line 1: is read, though sbatch reads only what begins with #SBATCH",)


@pytest.mark.parametrize("text", ["# SBATCH -N2", "#sbatch --nodes=2"])
def test_a_comment_that_was_to_be_an_option_is_noted(text):
    header = JobHeader.parse(text)
    assert header.directives == ()
    assert header.notes == ("line 1: is a comment to sbatch; an option begins with #SBATCH",)


def test_the_last_of_two_holds_and_is_noted():
    header = JobHeader.parse("#SBATCH -t 60\n#SBATCH -N 1\n#SBATCH --time=30\n#SBATCH -N 1")
    assert header.get("time") == "30"
    assert header.notes == ("line 3: --time=30 holds, not --time=60 of line 1",)


def test_an_option_of_a_plugin_is_kept_with_a_note():
    header = JobHeader.parse("#SBATCH --container-mounts /a:/b --x11 -N1")
    assert header.lines() == ("--container-mounts=/a:/b", "--x11", "--nodes=1")
    assert len(header.notes) == 2
    assert "a plugin of the site has to have it" in header.notes[0]


def test_lines_are_counted():
    header = JobHeader.parse("#!/bin/bash\n\n#SBATCH -N1 -t 5\n# more\n#SBATCH --mem=1G\n")
    assert [one.line for one in header.directives] == [3, 3, 5]


# What is a mistake


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("module load x", "found 'module load x'; a shell line belongs into worker_str"),
        ("--nodes=1", "found '--nodes=1'; a shell line belongs into worker_str"),
        ("#PBS -l nodes=2", "found '#PBS -l nodes=2'; write it for Slurm, with #SBATCH"),
        ("#SBATCH foo", "found 'foo'; allowed: options such as --time=60 or -t 60"),
        ("#SBATCH --exclusive user", "found 'user'; allowed: options such as --time=60 or -t 60"),
        ("#SBATCH -- -N2", "found '--'; allowed: options such as --time=60 or -t 60"),
        ("#SBATCH --nodes", "--nodes needs a value"),
        ("#SBATCH -N", "-N (--nodes) needs a value"),
        ("#SBATCH --requeue=yes", "--requeue has no value; found 'yes'"),
        ("#SBATCH -Z", "-Z is no option of sbatch"),
        ("#SBATCH -ntasks=4", "found -ntasks=4; a long option has two dashes: --ntasks=4"),
        ("#SBATCH --tme=60", "--tme is no option of sbatch; did you mean --time?"),
        ("#SBATCH --partion=x", "--partion is no option of sbatch; did you mean --partition?"),
        ("#SBATCH --node=2", "--node may be --nodefile or --nodelist or --nodes; write it in full"),
        ('#SBATCH --comment="a', "found '--comment=\"a'; a quote (\") is not closed"),
        ("#SBATCH hetjob", "found 'hetjob'; a job of several different parts is not available; "
         "one kind of node a job"),
        ("#SBATCH packjob", "found 'packjob'; a job of several different parts is not available; "
         "one kind of node a job"),
        ("#SBATCH -N1 : -N2", "found `:` between options; a job of several different parts is not "
         "available; one kind of node a job"),
        ("#SBATCH -n 4k", "--ntasks: found '4k'; allowed: a whole number of at least 1"),
        ("#SBATCH -c 0", "--cpus-per-task: found '0'; allowed: a whole number of at least 1"),
        ("#SBATCH --mem=1.5G", "--mem: found '1.5G'; allowed: a whole number of MB, or one with "
         "K, M, G or T: 64G"),
        ("#SBATCH -G two", "--gpus: found 'two'; allowed: a number of GPUs, perhaps with their "
         "type: a100:2"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(text, told):
    assert _mistakes(f"#SBATCH --account=me\n{text}") == [f"line 2: {told}"]


def test_all_mistakes_are_told_at_once():
    told = _mistakes("echo\n#SBATCH -N1\n#SBATCH --tme=1 --array=1-3 -n x")
    assert [one.partition(":")[0] for one in told] == ["line 1", "line 3", "line 3", "line 3"]


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("--array=1-3", "the pool starts as many jobs as it needs"),
        ("-a 1-3", "the pool starts as many jobs as it needs"),
        ("--arr=1-3", "the pool starts as many jobs as it needs"),
        ("--wrap=true", "the pool writes the job script itself"),
        ("--export-file=x", "exports belong into worker_str"),
        ("--hold", "nobody would release the jobs"),
        ("--wait", "the campaign would wait for the end of its first job"),
        ("--parsable", "sbatch would not tell the pool the job's number alone"),
        ("-Q", "sbatch would not tell the pool the job's number alone"),
        ("--clusters=a", "export SLURM_CLUSTERS=…"),
        ("--test-only", "no job would start"),
        ("--help", "no job would start"),
        ("-V", "no job would start"),
        ("--usage", "no job would start"),
    ],
)
def test_what_a_pool_cannot_have_is_refused_with_the_reason(option, why):
    (told,) = _mistakes(f"#SBATCH {option}")
    assert " cannot be used here: " in told
    assert why in told


@pytest.mark.parametrize(
    "option",
    ["--output=a.out", "-e a.err", "--chdir=/tmp", "-J x", "--open-mode=append", "--export=NONE",
     "--mem=0", "--exclusive", "--qos=x", "--gres=gpu:2", "-d afterok:1", "--signal=B:USR1@60",
     "--no-requeue", "-x node1,node2", "-C 'a&b'"],
)  # fmt: skip
def test_everything_else_is_honoured(option):
    header = JobHeader.parse(f"#SBATCH {option}")
    assert len(header.directives) == 1
    assert header.notes == ()


# What other keys say too


def test_what_another_key_says_is_added():
    assert JobHeader.parse("#SBATCH -t 5", {"nodes": ("blocks", 2)}).lines() == (
        "--time=5",
        "--nodes=2",
    )


def test_the_same_in_both_places_is_fine():
    assert JobHeader.parse("#SBATCH -N2", {"nodes": ("blocks", 2)}).lines() == ("--nodes=2",)


@pytest.mark.parametrize("found", ["1", "1-2"])
def test_another_value_than_that_of_the_key_is_a_mistake(found):
    with pytest.raises(ValueError, match="line 1: --nodes: found ") as caught:
        JobHeader.parse(f"#SBATCH -N {found}", {"nodes": ("blocks", 2)})
    assert str(caught.value).endswith(f"found '{found}', but blocks is 2; allowed: the same")


# What it says of a job


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 3600), ("90:30", 5430), ("1:2:3", 3723), ("1-0", 86400), ("1-2", 93600),
        ("1-2:3", 93780), ("1-2:3:4", 93784), ("48:00:00", 172800), ("1:99", 159),
        ("UNLIMITED", None), ("infinite", None), ("-1", None), ("0", None),
    ],
)  # fmt: skip
def test_a_time_limit_is_read_in_all_forms_of_slurm(text, seconds):
    assert quantities.seconds(text) == seconds
    assert _read(f"#SBATCH --time={text}") == {"time": text}


@pytest.mark.parametrize(("text", "limit"), [("60", 3600), ("90:30", 5460), ("0:05", 60)])
def test_a_time_limit_counts_in_whole_minutes_as_slurm_has_it(text, limit):
    assert JobHeader.parse(f"#SBATCH --time={text}").walltime_s == limit


@pytest.mark.parametrize(
    "text", ["1h", "1:2:3:4", "1-2:3:4:5", "-5", "1-", "", "1.5", "a-2", "1::2"]
)
def test_what_is_no_time_limit_of_slurm_is_told(text):
    (told,) = _mistakes(f"#SBATCH --time={text}")
    assert told.startswith(f"line 1: --time: found '{text}'; allowed: minutes, ")


def test_without_a_time_limit_there_is_none():
    assert JobHeader.parse("#SBATCH -N1").walltime_s is None


def test_a_job_may_end_at_its_shortest_limit():
    assert JobHeader.parse("#SBATCH --time=60 --time-min=20").walltime_s == 1200


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("", None),
        ("--exclusive", None),
        ("--ntasks-per-node=128", 128),
        ("--ntasks-per-node=32 --cpus-per-task=4", 128),
        ("--cpus-per-task=8", 8),
        ("-N 2 -n 64", 32),
        ("-N 2 -n 64 -c 2", 64),
        ("-n 64", 64),
        ("--mincpus=48", 48),
        ("--gpus-per-node=4 --cpus-per-gpu=8", 32),
    ],
)
def test_cores_of_a_node_follow_from_tasks_and_cores_a_task(text, cores):
    assert JobHeader.parse(f"#SBATCH {text}").cores_per_node == cores


@pytest.mark.parametrize(
    ("text", "memory"),
    [
        ("", None),
        ("--mem=0", None),
        ("--mem=2000", 2000),
        ("--mem=2000M", 2000),
        ("--mem=10GB", 10240),
        ("--mem=1t", 1048576),
        ("--mem=512K", 0.5),
        ("--mem-per-cpu=2G -n 8", 16384),
        ("--mem-per-cpu=2G", None),
        ("--mem-per-gpu=8G --gres=gpu:2", 16384),
    ],
)
def test_memory_of_a_node_is_in_mb(text, memory):
    assert JobHeader.parse(f"#SBATCH {text}").memory_per_node_mb == memory


def test_disk_of_a_node_is_in_mb():
    assert JobHeader.parse("#SBATCH --tmp=2G").disk_per_node_mb == 2048
    assert JobHeader.parse("#SBATCH -N1").disk_per_node_mb is None


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("", 0),
        ("--gres=gpu", 1),
        ("--gres=gpu:2", 2),
        ("--gres=gpu:a100:2", 2),
        ("--gres=gpu:a100", 1),
        ("--gres=gpu:a100:2(S:0-1)", 2),
        ("--gres=gpu:a100:1,gpu:v100:3", 4),
        ("--gres=nvme:100", 0),
        ("--gres=shard:4,gpu:2", 2),
        ("--gres=none", 0),
        ("--gpus-per-node=4", 4),
        ("--gpus-per-node=a100:4", 4),
        ("-G 4 -N 2", 2),
        ("--gpus=a100:2,v100:1", 3),
        ("--gpus-per-task=1 --ntasks-per-node=4", 4),
        ("--gpus-per-socket=2 --sockets-per-node=2", 4),
        ("--tres-per-node=gres/gpu:2", 2),
        ("--tres-per-task=gres/gpu=2 --ntasks-per-node=2", 4),
    ],
)
def test_gpus_of_a_node_are_counted(text, gpus):
    assert JobHeader.parse(f"#SBATCH {text}").gpus_per_node == gpus


# Writing


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_a_value_that_is_written_is_read_again(value):
    (line,) = JobHeader((Directive("comment", value, 1),)).lines()
    assert _read(f"#SBATCH {line}") == {"comment": value}


@given(
    st.lists(
        st.one_of(
            st.builds("--time={}-{}:00".format, st.integers(0, 9), st.integers(0, 23)),
            st.builds("-N{}".format, st.integers(1, 99)),
            st.builds("--comment='{}'".format, st.text('ab #:"', max_size=5)),
            st.sampled_from(["--exclusive", "-s", "-p cpu", "--site-option=3", "--gres gpu:2"]),
        ),
        max_size=6,
    )
)
def test_a_header_that_is_written_is_the_same_when_read(options):
    header = JobHeader.parse("#SBATCH " + " ".join(options))
    again = JobHeader.parse("\n".join(f"#SBATCH {line}" for line in header.lines()))
    assert [(o.name, o.value) for o in again.directives] == [
        (o.name, o.value) for o in header.directives
    ]


def test_a_quote_is_only_where_it_is_needed():
    header = JobHeader.parse("#SBATCH --comment='a b' --mail-user=me@host.org -C 'a&b'")
    assert header.lines() == ('--comment="a b"', "--mail-user=me@host.org", "--constraint=a&b")


@pytest.mark.parametrize("option", ["--tim 60", "--tme 60"])
def test_the_value_of_a_wrong_option_is_no_second_mistake(option: str):
    with pytest.raises(ValueError) as told:
        JobHeader.parse(f"#SBATCH {option}")
    assert len(str(told.value).splitlines()) == 1


def test_memory_that_is_asked_for_in_two_ways_is_noted():
    both = JobHeader.parse("#SBATCH --mem=4G\n#SBATCH --mem-per-cpu=2G")
    assert len(both.notes) == 1
    assert both.notes[0].startswith("line 2: --mem and --mem-per-cpu")
    assert JobHeader.parse("#SBATCH --mem=4G --cpus-per-task=2").notes == ()
