"""CLUSTER: Slurm jobs, and mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimspax_core.settings.cluster import BatchJobs, Blocks, Cluster, Slot

WHOLE = "a whole number of at least 1"
HEADER = "#SBATCH --ntasks-per-node=128 --mem=256G --time=1-0"


def _jobs(**content: object) -> BatchJobs:
    jobs = Cluster.model_validate({"type": "slurm", "slurm_str": HEADER, **content}).reference_jobs
    assert jobs is not None
    return jobs


def _ml(**ml: object) -> BatchJobs:
    jobs = Cluster.model_validate({"ml": {"slurm_str": "#SBATCH -t 60", **ml}}).ml_jobs
    assert jobs is not None
    return jobs


def _slurm(inputs, **content: str):
    inputs.project["CLUSTER"] = {"type": "slurm", "slurm_str": f"'{HEADER}'", **content}
    return inputs


# Local


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"type": "pbs"}, "CLUSTER.type: wrong value 'pbs'"),
        ({"type": "local", "max_workers": "0"}, "CLUSTER.max_workers: wrong value 0"),
        ({"type": "local", "ml": "{max_workers: 0}"},
         "CLUSTER.ml.max_workers: wrong value 0"),
        ({"type": "local", "ml": "{max_worker: 2}"},
         "CLUSTER.ml.max_worker: unknown key -> max_workers"),
        ({"type": "local", "ml": "2"},
         "CLUSTER.ml: wrong value 2"),
        ({"type": "local", "blocks": "{max_block: 2}"},
         "CLUSTER.blocks.max_block: unknown key -> max_blocks"),
        ({"memory_per_job": "0"},
         "CLUSTER.memory_per_job: wrong value 0"),
    ],
)  # fmt: skip
def test_a_wrong_cluster_is_told(inputs, content, told):
    inputs.project["CLUSTER"] = content
    (mistake,) = inputs.mistakes()
    assert mistake.partition("  ")[2] == told


@pytest.mark.parametrize(
    ("key", "text"),
    [("slurm_str", f"'{HEADER}'"), ("parsl_options", "{}"), ("blocks", "{}"), ("worker_str", "ls")],
)
def test_a_cluster_is_local_unless_it_has_what_slurm_needs(inputs, key, text):
    inputs.project["CLUSTER"] = {"max_workers": "3"}
    assert inputs.load().cluster.reference_jobs is None
    inputs.project["CLUSTER"] = {"slurm_str": f"'{HEADER}'", key: text}
    assert inputs.load().cluster.type == "slurm"


def test_a_local_cluster_computes_four_labels_at_a_time(inputs):
    inputs.plant("aimsPAX.yaml", "CLUSTER", "type", "Local")
    assert inputs.load().cluster.labels_at_once == 4


def test_what_is_for_slurm_has_no_effect_locally_and_is_said_once(inputs):
    inputs.project["CLUSTER"] = {
        "type": "local", "slurm_str": "module load x", "worker_str": "ls",
        "blocks": "{min_blocks: 1}", "idle_time": "1", "project_name": "water",
        "max_workers": "2", "tasks_per_node": "1",
    }  # fmt: skip
    settings = inputs.load()
    assert (settings.cluster.reference_jobs, settings.cluster.ml_jobs) == (None, None)
    assert settings.notes == (
        "aimsPAX.yaml: CLUSTER: blocks, slurm_str, worker_str, tasks_per_node, project_name, "
        "idle_time have no effect with `type: local`",
    )


# The jobs of labels


def test_a_job_has_the_options_of_the_user_and_what_they_leave_open():
    jobs = _jobs(blocks={"nodes_per_block": 2}, project_name="water", worker_str="module load x\n")
    assert jobs.header.lines() == (
        "--ntasks-per-node=128",
        "--mem=256G",
        "--time=1-0",
        "--nodes=2",
        "--job-name=water",
    )
    assert (jobs.walltime_s, jobs.prologue, jobs.slots, jobs.per_slot, jobs.python) == (
        86400,
        "module load x\n",
        1,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({}, "aimspax"),
        ({"blocks": {"label": "blocks"}}, "blocks"),
        ({"blocks": {"label": "blocks"}, "project_name": "project"}, "project"),
        ({"slurm_str": "#SBATCH -J own", "project_name": "project"}, "own"),
    ],
)
def test_the_name_of_a_job_is_the_one_nearest_to_it(content, name):
    jobs = _jobs(**content)
    assert (jobs.name, jobs.header.get("job-name")) == (name, name)


def test_tasks_a_node_may_be_said_beside_the_options():
    jobs = _jobs(slurm_str="#SBATCH -t 60", tasks_per_node=64)
    assert jobs.header.get("ntasks-per-node") == "64"


def test_the_python_of_the_jobs_may_be_another():
    assert _jobs(python="/opt/bin/python").python == "/opt/bin/python"


@pytest.mark.parametrize(
    ("content", "slots", "share"),
    [
        ({"cores_per_job": 32}, 4, Slot(32, 65536)),
        ({"cores_per_job": 50}, 2, Slot(50, 131072)),
        ({"cores_per_job": 128}, 1, None),
        ({"memory_per_job": 100000}, 2, Slot(64, 100000)),
        ({"cores_per_job": 16, "memory_per_job": 65536}, 4, Slot(16, 65536)),
        ({"cores_per_job": 16, "blocks": {"nodes_per_block": 3}}, 24, Slot(16, 32768)),
        ({"cores_per_job": 100, "blocks": {"nodes_per_block": 3}}, 3, Slot(100, 262144)),
        ({"cores_per_job": 256, "blocks": {"nodes_per_block": 5}}, 2, Slot(256, 655360)),
        ({"cores_per_job": 1, "slurm_str": "#SBATCH -n 4"}, 4, Slot(1, None)),
        ({"disk_per_job": 500, "slurm_str": "#SBATCH --tmp=1000"}, 2, Slot(None, None)),
    ],
)  # fmt: skip
def test_a_block_holds_as_many_calculations_as_fit(content, slots, share):
    jobs = _jobs(**content)
    assert (jobs.slots, jobs.per_slot) == (slots, share)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"cores_per_job": "129"}, "conflict"),
        ({"memory_per_job": "1e6", "blocks": "{nodes_per_block: 2}"},
         "conflict"),
        ({"disk_per_job": "5"},
         "conflict"),
        ({"slurm_str": "'#SBATCH --mem=0'", "cores_per_job": "2", "memory_per_job": "5"},
         "conflict"),
    ],
)  # fmt: skip
def test_calculations_that_do_not_fit_are_told_with_numbers(inputs, content, told):
    (mistake,) = _slurm(inputs, **content).mistakes()
    assert mistake.partition("  ")[2] == f"CLUSTER.slurm_str: {told}"


def test_slurm_needs_the_options_of_its_jobs(inputs):
    inputs.project["CLUSTER"] = {"type": "slurm"}
    (mistake,) = inputs.mistakes()
    assert mistake.partition("  ")[2] == ("CLUSTER.slurm_str: missing")


def test_every_mistake_in_the_options_is_told_with_its_line(inputs):
    inputs.project["CLUSTER"] = {
        "slurm_str": "|\n    #SBATCH --nodes=2\n    #SBATCH --tme=60\n    module load x",
        "tasks_per_node": "2",
    }
    assert [one.partition("  ")[2] for one in inputs.mistakes()] == [
        "CLUSTER.slurm_str: wrong line",
        "CLUSTER.slurm_str: wrong line",
        "CLUSTER.slurm_str: wrong line",
    ]


def test_tasks_that_differ_are_told(inputs):
    (mistake,) = _slurm(inputs, tasks_per_node="64").mistakes()
    assert mistake.endswith("CLUSTER.slurm_str: wrong line")


def test_all_labels_at_once_are_those_of_all_jobs(inputs):
    _slurm(inputs, cores_per_job="32", blocks="{max_blocks: 5}", max_workers="2")
    settings = inputs.load()
    assert settings.cluster.labels_at_once == 20
    assert settings.notes == (
        "aimsPAX.yaml: CLUSTER.max_workers has no effect with `type: slurm`; blocks say how many "
        "jobs",
    )


@pytest.mark.parametrize(
    ("labels", "blocks"), [(1, (1, 1, 1)), (9, (2, 3, 3)), (100, (2, 4, 3))]
)  # fmt: skip
def test_a_run_of_few_labels_has_few_jobs(labels, blocks):
    cluster = Cluster.model_validate(
        {"type": "slurm", "slurm_str": HEADER, "cores_per_job": 32,
         "blocks": {"min_blocks": 2, "max_blocks": 4, "init_blocks": 3}}
    )  # fmt: skip
    fewer = cluster.with_labels_at_once(labels).blocks
    assert (fewer.min_blocks, fewer.max_blocks, fewer.init_blocks) == blocks


def test_a_local_run_of_few_labels_has_few_workers():
    assert Cluster(max_workers=4).with_labels_at_once(3).labels_at_once == 3
    assert Cluster(max_workers=4).with_labels_at_once(9).labels_at_once == 4


# Blocks


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        ({}, (0, 1, 1)),
        ({"min_blocks": 2, "max_blocks": 4}, (2, 2, 4)),
        ({"init_blocks": 0}, (0, 0, 1)),
        ({"max_blocks": 8, "init_blocks": 8}, (0, 8, 8)),
    ],
)
def test_blocks_begin_as_asked_or_with_one(content, numbers):
    blocks = Blocks.model_validate(content)
    assert (blocks.min_blocks, blocks.init_blocks, blocks.max_blocks) == numbers


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{min_blocks: 2}", "max_blocks: wrong value 1"),
        ("{min_blocks: 3, max_blocks: 2}", "max_blocks: wrong value 2"),
        ("{init_blocks: 3, max_blocks: 2}",
         "init_blocks: wrong value 3"),
        ("{min_blocks: 1, init_blocks: 0}",
         "init_blocks: wrong value 0"),
        ("{max_blocks: 0}", "max_blocks: wrong value 0"),
    ],
)  # fmt: skip
def test_blocks_that_contradict_each_other_are_told(inputs, text, told):
    (mistake,) = _slurm(inputs, blocks=text).mistakes()
    assert mistake.partition("  ")[2] == f"CLUSTER.blocks.{told}"


def test_a_mistake_in_parsl_options_is_found_in_its_line(inputs):
    _slurm(inputs, parsl_options="\n      init_blocks: 1\n      max_blocks: 0")
    (mistake,) = inputs.mistakes()
    line = (inputs.directory / "aimsPAX.yaml").read_text().splitlines().index("      max_blocks: 0")
    assert mistake.startswith(f"aimsPAX.yaml:{line + 1}  CLUSTER.blocks.max_blocks: wrong value 0")


@pytest.mark.parametrize("written", ["blocks", "parsl_options"])
@pytest.mark.parametrize("named", ["blocks", "parsl_options"])
def test_an_override_finds_the_blocks_under_either_name(inputs, written, named):
    _slurm(inputs, **{written: "{max_blocks: 2, label: x}"})
    blocks = inputs.load({f"CLUSTER.{named}.max_blocks": 8}).cluster.blocks
    assert (blocks.max_blocks, blocks.label) == (8, "x")


# The jobs of training and MD


def test_training_runs_here_unless_it_has_jobs(inputs):
    assert _slurm(inputs).load().cluster.ml_jobs is None


def test_training_may_have_jobs_while_labels_are_local(inputs):
    inputs.project["CLUSTER"] = {
        "type": "local", "idle_time": "5", "ml": "{slurm_str: '#SBATCH -t 60'}",
    }  # fmt: skip
    settings = inputs.load()
    assert settings.cluster.reference_jobs is None
    assert settings.cluster.ml_jobs is not None
    assert settings.notes == ()


@pytest.mark.parametrize(
    ("options", "slots"),
    [("-t 5", 1), ("--gres=gpu:2", 2), ("--gres=gpu:a100:4", 4), ("--gpus-per-node=3", 3),
     ("-G 2", 2)],
)  # fmt: skip
def test_training_has_a_process_for_each_gpu_of_a_job(options, slots):
    assert _ml(slurm_str=f"#SBATCH {options}").slots == slots


def test_a_process_has_its_share_of_the_job():
    jobs = _ml(slurm_str="#SBATCH --gres=gpu:2 --ntasks-per-node=16 --mem=64G")
    assert jobs.per_slot == Slot(8, 32768)


@pytest.mark.parametrize(
    ("ml", "numbers"),
    [
        ({}, (1, 1, 1)),
        ({"max_workers": 3}, (1, 1, 3)),
        ({"max_workers": 3, "slurm_str": "#SBATCH -G 2"}, (1, 1, 2)),
        ({"max_workers": 3, "blocks": {"max_blocks": 2}}, (1, 1, 2)),
        ({"blocks": {"max_blocks": 2, "min_blocks": 0, "init_blocks": 0}}, (0, 0, 2)),
    ],
)
def test_training_has_as_many_jobs_as_its_processes_need(ml, numbers):
    blocks = _ml(**ml).blocks
    assert (blocks.min_blocks, blocks.init_blocks, blocks.max_blocks) == numbers


@pytest.mark.parametrize(
    ("ml", "workers"),
    [
        ("slurm_str: '#SBATCH -G 3'", 3),
        ("slurm_str: '#SBATCH -G 3', blocks: {max_blocks: 5}", 4),
        ("slurm_str: '#SBATCH -G 3', max_workers: 5", 5),
        ("slurm_str: '#SBATCH -G 3', max_workers: 5, blocks: {max_blocks: 1}", 3),
    ],
)
def test_the_rules_know_how_many_processes_there_are(inputs, ml, workers):
    settings = _slurm(inputs, ml=f"{{{ml}}}").load()
    assert settings.idg.ensemble_size == 4
    assert settings.ml_workers == workers


@pytest.mark.parametrize(
    ("cluster", "name"),
    [
        ({}, "aimspax-ml"),
        ({"project_name": "water"}, "water-ml"),
        ({"project_name": "water", "ml": {"blocks": {"label": "models"}}}, "models"),
    ],
)
def test_the_jobs_of_training_have_a_name_of_their_own(cluster, name):
    ml = {"slurm_str": "#SBATCH -t 60", **cluster.pop("ml", {})}
    jobs = Cluster.model_validate({**cluster, "ml": ml}).ml_jobs
    assert jobs is not None
    assert jobs.name == name


@pytest.mark.parametrize(
    ("ml", "told"),
    [
        ("{slurm_str: ''}", "slurm_str: wrong value nothing"),
        ("{slurm_str: '#SBATCH -N2'}",
         "slurm_str: wrong line"),
        ("{blocks: {nodes_per_block: 2}}", "blocks.nodes_per_block: wrong value 2"),
        ("{blocks: {min_blocks: 2}}", "blocks.max_blocks: wrong value 1"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_jobs_of_training_is_told(inputs, ml, told):
    (mistake,) = _slurm(inputs, ml=ml).mistakes()
    assert mistake.partition("  ")[2] == f"CLUSTER.ml.{told}"


# What may not be meant


@pytest.mark.parametrize(
    ("content", "device", "note"),
    [
        ({"slurm_str": "'#SBATCH -N1'"}, "cpu",
         "CLUSTER.slurm_str has no --time; what the limit of a job ends runs again in another"),
        ({"slurm_str": f"'{HEADER} --x11'"}, "cpu",
         "CLUSTER.slurm_str: line 1: --x11 is no option of sbatch itself; a plugin of the site "
         "has to have it"),
        ({"ml": "{worker_str: ls}"}, "cpu",
         "CLUSTER.ml: worker_str has no effect without `slurm_str`"),
        ({"ml": "{slurm_str: '#SBATCH -t 5'}"}, "cuda",
         "CLUSTER.ml.slurm_str asks for no GPU (--gres=gpu:1), and MISC.device is cuda"),
        ({"ml": "{slurm_str: '#SBATCH -t 5', max_workers: 3, blocks: {max_blocks: 2}}"}, "cpu",
         "CLUSTER.ml.max_workers is 3; ml.blocks have 2 at once"),
        ({"blocks": "{run_dir: a, function_dir: b, label: c}"}, "cpu",
         "CLUSTER.blocks.run_dir, function_dir have no effect: it configured PARSL, which aimspax "
         "does not use"),
    ],
)  # fmt: skip
def test_what_may_not_be_meant_is_noted(inputs, content, device, note):
    inputs.plant("mace.yaml", "MISC", "device", device)
    assert _slurm(inputs, **content).load().notes == (f"aimsPAX.yaml: {note}",)


def test_right_settings_of_slurm_have_no_notes(inputs):
    _slurm(inputs, ml="{slurm_str: '#SBATCH -t 60 --gres=gpu:1'}", host="login1")
    inputs.plant("mace.yaml", "MISC", "device", "cuda")
    settings = inputs.load()
    assert settings.notes == ()
    assert settings.directory == Path(inputs.directory)


def test_a_time_limit_counts_in_whole_minutes_as_slurm_has_it():
    assert _jobs(slurm_str="#SBATCH --time=00:00:05").walltime_s == 60


def test_too_few_jobs_are_one_mistake(inputs):
    blocks = "{min_blocks: 6, max_blocks: 4, init_blocks: 1}"
    (told,) = _slurm(inputs, blocks=blocks).mistakes()
    assert "CLUSTER.blocks.max_blocks" in told
