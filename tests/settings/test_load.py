"""Reading a run directory's settings: every mistake of every file, at once, where it is."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from aimspax_core.errors import SettingsError
from aimspax_core.settings import settings as resolved
from aimspax_core.settings.load import load
from tests.settings_files import describe

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"


def test_right_files_load_without_a_note(inputs):
    assert inputs.load().notes == ()


def test_values_of_both_files_are_read(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "temperature", "500")
    inputs.plant("mace.yaml", "ARCHITECTURE", "r_max", "4.5")
    settings = inputs.load()
    assert (settings.md(0).temperature, settings.model.ARCHITECTURE.r_max) == (500.0, 4.5)


def test_settings_do_not_import_torch():
    code = (
        "import sys, aimspax_core.settings.load, aimspax_core.inputs.provenance; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# All mistakes at once


def test_mistakes_of_both_files_come_together_by_file_and_line(inputs):
    inputs.plant("mace.yaml", "TRAINING", "batchsize", "5")
    inputs.plant("aimsPAX.yaml", "MD", "timestep", "0")
    inputs.plant("aimsPAX.yaml", IDG, "valid_ratio", "1.0")
    inputs.plant("mace.yaml", "GENERAL", "seed", "x")
    assert inputs.mistakes() == [
        "aimsPAX.yaml:6  INITIAL_DATASET_GENERATION.valid_ratio: wrong value 1.0",
        "aimsPAX.yaml:12  MD.timestep: wrong value 0",
        "mace.yaml:3  GENERAL.seed: wrong value 'x'",
        "mace.yaml:5  TRAINING.batchsize: unknown key -> batch_size",
    ]


def test_the_heading_counts(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "timestep", "0")
    inputs.plant("aimsPAX.yaml", "MD", "temperature", "0")
    with pytest.raises(SettingsError, match=r"^2 mistakes in the settings:"):
        inputs.load()


def test_one_mistake_is_not_plural(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "timestep", "0")
    with pytest.raises(SettingsError, match=r"^1 mistake in the settings:"):
        inputs.load()


def test_a_syntax_error_does_not_hide_the_other_file(inputs):
    inputs.plant("mace.yaml", "TRAINING", "lr", "-1")
    inputs.write()
    (inputs.directory / "aimsPAX.yaml").write_text("MD:\n  a: [1\nMISC:\n")
    found = _mistakes(inputs.directory)
    assert len(found) == 2
    assert found[0].startswith("aimsPAX.yaml:3  unreadable")
    assert found[1] == "mace.yaml:4  TRAINING.lr: wrong value -1"


def test_a_missing_file_does_not_hide_the_mistakes_of_all_sections(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "friction", "-1")
    inputs.plant("aimsPAX.yaml", "MISC", "path_to_geometry", "nowhere.in")
    inputs.write()
    (inputs.directory / "mace.yaml").unlink()
    assert [line.partition("  ")[2].partition(":")[0] for line in _mistakes(inputs.directory)] == [
        "MD.friction",
        "MISC.path_to_geometry",
        "unreadable",
    ]


def test_refused_keys_do_not_hide_plain_mistakes(inputs):
    inputs.plant("aimsPAX.yaml", AL, "intermol_forces_weight", "100")
    inputs.plant("aimsPAX.yaml", AL, "c_x", "-1")
    assert len(inputs.mistakes()) == 2


def test_a_mistake_is_told_once(inputs):
    inputs.plant("aimsPAX.yaml", "CLUSTER", "type", "pbs")
    assert inputs.mistakes() == ["aimsPAX.yaml:12  CLUSTER.type: wrong value 'pbs'"]


def test_the_error_survives_pickling(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "timestep", "0")
    with pytest.raises(SettingsError) as caught:
        inputs.load()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# Files that are no settings files


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"- MD\n- MISC\n", "aimsPAX.yaml  unreadable ['MD', 'MISC']"),
        (b"42\n", "aimsPAX.yaml  unreadable 42"),
        (
            b"MD:\n  stat_ensemble: \xff\n",
            "aimsPAX.yaml:2  unreadable",
        ),
        (
            b"MD:\n\ttimestep: 1\n",
            "aimsPAX.yaml:2  unreadable",
        ),
        (
            b"MD:\n  a: b: c\n",
            "aimsPAX.yaml:2  unreadable",
        ),
        (
            b"MD:\n  a: !!python/object:os.system {}\n",
            "aimsPAX.yaml:2  unreadable",
        ),
        (b"MD:\n  a: \x07\n", "aimsPAX.yaml:2  unreadable"),
    ],
)  # fmt: skip
def test_what_is_no_settings_file_is_told(inputs, content, told):
    inputs.write()
    (inputs.directory / "aimsPAX.yaml").write_bytes(content)
    assert _mistakes(inputs.directory) == [told]


def test_an_empty_file_lacks_its_sections(inputs):
    inputs.write()
    (inputs.directory / "mace.yaml").write_text("# nothing\n")
    assert _mistakes(inputs.directory) == ["mace.yaml  GENERAL: missing"]


def test_a_folder_is_no_settings_file(inputs):
    inputs.write()
    (inputs.directory / "mace.yaml").unlink()
    (inputs.directory / "mace.yaml").mkdir()
    assert _mistakes(inputs.directory) == ["mace.yaml  unreadable a folder"]


def test_a_directory_that_is_not_there_is_told(tmp_path):
    with pytest.raises(SettingsError, match="nowhere: no such directory"):
        load(tmp_path / "nowhere")


def test_a_byte_order_mark_is_harmless(inputs):
    inputs.write()
    text = (inputs.directory / "mace.yaml").read_bytes()
    (inputs.directory / "mace.yaml").write_bytes(b"\xef\xbb\xbf" + text)
    assert load(inputs.directory).model.GENERAL.name_exp == "test"


def test_every_key_that_is_there_twice_is_told_with_both_lines(inputs):
    inputs.write()
    (inputs.directory / "mace.yaml").write_text(
        "GENERAL:\n  name_exp: a\n  name_exp: b\nMISC:\n  device: cpu\nMISC:\n  device: cpu\n"
    )
    assert _mistakes(inputs.directory) == [
        "mace.yaml:3  GENERAL.name_exp: twice twice, first in line 2",
        "mace.yaml:6  MISC: twice twice, first in line 4",
    ]


# Both generations' names of the model file


def test_model_yaml_is_the_other_name_of_mace_yaml(inputs):
    inputs.write()
    (inputs.directory / "mace.yaml").rename(inputs.directory / "model.yaml")
    assert load(inputs.directory).model.GENERAL.name_exp == "test"


@pytest.mark.parametrize("model", ["mace.yml", "model.yml"])
def test_the_files_may_end_in_yml(inputs, model):
    inputs.plant("aimsPAX.yaml", "MD", "timestep", "0.25")
    inputs.write()
    (inputs.directory / "mace.yaml").rename(inputs.directory / model)
    (inputs.directory / "aimsPAX.yaml").rename(inputs.directory / "aimsPAX.yml")
    found = load(inputs.directory)
    assert (found.model.GENERAL.name_exp, found.md(0).timestep) == ("test", 0.25)


def test_both_spellings_are_a_mistake(inputs):
    inputs.write()
    (inputs.directory / "aimsPAX.yml").write_text("MD: {}\n")
    assert _mistakes(inputs.directory) == ["aimsPAX.yml  conflict beside aimsPAX.yaml"]


def test_two_model_files_are_a_mistake_among_others(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "timestep", "0")
    inputs.write()
    (inputs.directory / "model.yaml").write_text("GENERAL: {name_exp: other}\n")
    assert _mistakes(inputs.directory)[1:] == ["model.yaml  conflict beside mace.yaml"]


@pytest.mark.parametrize("name", ["mace.yaml", "model.yaml"])
def test_of_two_model_files_one_may_be_named(inputs, name):
    inputs.write()
    (inputs.directory / "model.yaml").write_text("GENERAL: {name_exp: other}\n")
    named = load(inputs.directory, model_file=inputs.directory / name)
    assert named.model.GENERAL.name_exp == {"mace.yaml": "test", "model.yaml": "other"}[name]


def test_files_of_other_names_can_be_named(inputs):
    inputs.write()
    for name in ("aimsPAX.yaml", "mace.yaml"):
        (inputs.directory / name).rename(inputs.directory / f"my_{name}")
    settings = load(
        inputs.directory,
        project_file=inputs.directory / "my_aimsPAX.yaml",
        model_file=inputs.directory / "my_mace.yaml",
    )
    assert settings.model.GENERAL.name_exp == "test"


# Sections


@pytest.mark.parametrize(
    ("file", "section", "text", "told"),
    [
        ("mace.yaml", "TRANING", "{lr: 0.1}", "unknown section -> TRAINING"),
        ("mace.yaml", "MD", "{}", "misplaced in the wrong file"),
        ("aimsPAX.yaml", "TRAINING", "{}", "misplaced in the wrong file"),
        ("mace.yaml", "training", "{}", "unknown section -> TRAINING"),
        ("mace.yaml", "1", "{}", "unknown section"),
        ("mace.yaml", "MISC", "[cpu]", "wrong value ['cpu']"),
        ("mace.yaml", "MISC", "cuda", "wrong value 'cuda'"),
        ("aimsPAX.yaml", "REFERENCE", "tblite", "wrong value 'tblite'"),
        ("aimsPAX.yaml", "REFERENCE", "", "missing"),
        ("aimsPAX.yaml", "MD", "",
         "missing"),
        ("aimsPAX.yaml", "MD", "5", "wrong value 5"),
    ],
)  # fmt: skip
def test_a_wrong_section_is_told(inputs, file, section, text, told):
    (inputs.project if file == "aimsPAX.yaml" else inputs.model)[section] = text
    (mistake,) = inputs.mistakes()
    assert mistake.partition("  ")[2] == f"{section}: {told}"


def test_an_empty_section_has_its_defaults(inputs):
    inputs.model["TRAINING"] = ""
    inputs.project["MISC"] = ""
    inputs.project["CLUSTER"] = ""
    assert inputs.load().model.TRAINING.lr == 0.01


def test_a_key_of_another_section_is_sent_there(inputs):
    inputs.plant("mace.yaml", "TRAINING", "r_max", "5.")
    (mistake,) = inputs.mistakes()
    assert mistake.endswith("TRAINING.r_max: misplaced in the wrong section")


def test_a_key_of_nowhere_is_answered_with_all_keys(inputs):
    inputs.plant("aimsPAX.yaml", "GATE", "zzz", "1")
    (mistake,) = inputs.mistakes()
    assert mistake.endswith("GATE.zzz: unknown key")


# Overrides


def test_overrides_replace_values_in_either_file(inputs):
    settings = inputs.load({"MD.temperature": 400, "TRAINING": {"lr": 0.5}})
    assert (settings.md(0).temperature, settings.model.TRAINING.lr) == (400.0, 0.5)


def test_overrides_leave_the_other_keys_of_a_section(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "timestep", "2.0")
    assert inputs.load({"MD": {"temperature": 400}}).md(0).timestep == 2.0


def test_overrides_reach_nested_keys(inputs):
    inputs.plant("aimsPAX.yaml", "CLUSTER", "type", "local")
    assert inputs.load({"CLUSTER.ml.max_workers": 3}).ml_workers == 3


def test_each_misc_key_goes_to_its_own_file(inputs):
    settings = inputs.load({"MISC.device": "cuda", "MISC.log_dir": "elsewhere"})
    assert (settings.model.MISC.device, settings.misc.log_dir) == ("cuda", Path("elsewhere"))


def test_an_override_mends_a_mistake(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "timestep", "0")
    assert inputs.load({"MD.timestep": 1}).md(0).timestep == 1.0


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ({"MD.timestep": 0}, "MD.timestep: wrong value 0"),
        ({"MD.timstep": 1}, "MD.timstep: unknown key -> timestep"),
        ({"MD.seed": -1}, "MD.MD_seed: wrong value -1"),
        ({"MD": 3}, "MD: wrong value 3"),
        ({"MISC.devise": "cpu"}, "MISC.devise: unknown key -> device"),
        ({"MISC.logdir": "x"}, "MISC.logdir: unknown key -> log_dir"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_told_as_such(inputs, override, told):
    assert inputs.mistakes(override) == [f"override  {told}"]


def test_an_override_of_an_unknown_section_names_the_nearest_of_both_files(inputs):
    (mistake,) = inputs.mistakes({"TRANING.lr": 1})
    assert mistake.startswith("override  TRANING.lr: unknown section -> TRAINING")


# Without CLUSTER


def test_without_cluster_labels_are_computed_on_all_cores(inputs, monkeypatch):
    monkeypatch.setattr(resolved, "machine_cores", lambda: 7)
    assert inputs.load().cluster.max_workers == 7


@pytest.mark.parametrize(("cores", "members", "workers"), [(8, 4, 4), (2, 4, 2), (1, 4, 1)])
def test_training_has_a_process_a_core_and_member_at_most(
    inputs, monkeypatch, cores, members, workers
):
    monkeypatch.setattr(resolved, "machine_cores", lambda: cores)
    inputs.plant("aimsPAX.yaml", IDG, "ensemble_size", str(members))
    assert inputs.load().ml_workers == workers


def test_one_process_has_the_gpu(inputs, monkeypatch):
    monkeypatch.setattr(resolved, "machine_cores", lambda: 8)
    inputs.plant("mace.yaml", "MISC", "device", "cuda")
    assert inputs.load().ml_workers == 1


# The original's own example


EXAMPLE = """\
INITIAL_DATASET_GENERATION:
  desired_acc: 0.1
  desired_acc_scale_idg: 3.
  valid_ratio: 0.1
  n_points_per_sampling_step_idg: 10
  valid_skip: 5
  intermediate_epochs_idg: 5
  ensemble_size: 4
  skip_step_initial: 10
  initial_sampling: mace-mp0
  initial_foundational_size: "medium"
  species_dir: "path/to/FHIaims/species_defaults/defaults_2020/light"

ACTIVE_LEARNING:
  desired_acc: 0.1
  valid_ratio: 0.1
  epochs_per_worker: 2
  intermediate_epochs_al: 1
  converge_al: True
  converge_best: True
  max_convergence_epochs: 50
  convergence_patience: 50
  valid_skip: 5
  ensemble_size: 4
  c_x: -0.1
  skip_step_mlff: 25 
  num_trajectories: 8
  species_dir: "path/to/FHIaims/species_defaults/defaults_2020/light"


MD:
  stat_ensemble: NVT
  thermostat: Langevin
  temperature: 500
  timestep: 1.
  friction: 0.001
  seed: 42

MISC:
  create_restart: True

CLUSTER:
  type: slurm
  project_name: 'aimsPAX_example'
  parsl_options:
    nodes_per_block: 1
    init_blocks: 1
    min_blocks: 1
    max_blocks: 4
    label: 'aimsPAX_example'

  slurm_str: |
    #SBATCH --job-name=aimsPAX_example
    #SBATCH --partition=cpu
    #SBATCH --nodes=1
    #SBATCH --ntasks-per-node=128
    #SBATCH --time=48:00:00
    #SBATCH --account=XXX
    #SBATCH --qos=default
  worker_str: |
    module load env/release/2023
    source path/to/your/conda/bin/activate my_env
    module load intel
    ulimit -s unlimited
    export OMP_NUM_THREADS=1
    export MKL_NUM_THREADS=1
    export MKL_DYNAMIC='FALSE'
    export WORK_QUEUE_DISABLE_SHARED_PORT=1

  launch_str: srun path/to/aims.x >> aims.out
  calc_dir: "path/to/working/dir/calc"

  
"""  # noqa: W291, W293
EXAMPLE_MODEL = """\
GENERAL:
  name_exp: test
  checkpoints_dir: ./checkpoints
  model_dir: ./model
  default_dtype: float32
  compute_stress: False
  seed: 100

ARCHITECTURE:
  r_max: 5.
  num_channels: 32
  max_L: 1
  radial_MLP: 
  - 16
  - 16
  - 16

TRAINING:
  batch_size: 5
  valid_batch_size: 5
  lr: 0.01
  amsgrad: True
  optimizer: adam
  loss: weighted
  energy_weight: 1.
  forces_weight: 1000.

MISC:
  device: cuda
"""  # noqa: W291


def _example(directory: Path, project: str) -> Path:
    (directory / "aimsPAX.yaml").write_text(project)
    (directory / "mace.yaml").write_text(EXAMPLE_MODEL)
    (directory / "geometry.in").write_text("atom 0 0 0 H\n")
    return directory


def _mended() -> str:
    return "REFERENCE: {engine: tblite}\n" + EXAMPLE.replace("type: slurm", "type: local")


def test_the_originals_example_lacks_its_files_only(tmp_path):
    (tmp_path / "control.in").write_text("xc pbe\n")
    assert _mistakes(_example(tmp_path, EXAMPLE)) == [
        f"aimsPAX.yaml:12  {IDG}.species_dir: not there "
        "'path/to/FHIaims/species_defaults/defaults_2020/light'",
    ]


def test_the_originals_example_runs_its_labels_in_its_slurm_jobs(tmp_path):
    (tmp_path / "control.in").write_text("xc pbe\n")
    (tmp_path / "path/to/FHIaims/species_defaults/defaults_2020/light").mkdir(parents=True)
    settings = load(_example(tmp_path, EXAMPLE))
    jobs = settings.cluster.reference_jobs
    assert jobs is not None
    assert (jobs.name, jobs.walltime_s, jobs.slots) == ("aimsPAX_example", 48 * 3600, 1)
    assert (jobs.blocks.min_blocks, jobs.blocks.init_blocks, jobs.blocks.max_blocks) == (1, 1, 4)
    assert jobs.header.lines() == (
        "--partition=cpu",
        "--nodes=1",
        "--ntasks-per-node=128",
        "--time=48:00:00",
        "--account=XXX",
        "--qos=default",
        "--job-name=aimsPAX_example",
    )
    assert jobs.prologue.splitlines()[0] == "module load env/release/2023"
    assert settings.cluster.ml_jobs is None
    assert settings.notes == (
        "aimsPAX.yaml: MD.seed is read as MD_seed",
        "aimsPAX.yaml: CLUSTER.parsl_options is read as blocks",
    )


def test_the_originals_example_loads_once_mended(tmp_path):
    settings = load(_example(tmp_path, _mended()))
    assert settings.idg.foundation.mace_model == "medium"
    assert settings.model.ARCHITECTURE.radial_MLP == [16, 16, 16]


def test_the_originals_example_has_its_seed_read_as_md_seed(tmp_path):
    settings = load(_example(tmp_path, _mended().replace("seed: 42", "seed: 7")))
    assert settings.md(0).MD_seed == 7
    assert "aimsPAX.yaml: MD.seed is read as MD_seed" in settings.notes


def test_the_originals_example_has_one_note_for_each_key_without_effect(tmp_path):
    notes = [note.split()[1] for note in load(_example(tmp_path, _mended())).notes]
    assert sorted(notes) == [
        f"{AL}.species_dir",
        "CLUSTER.calc_dir",
        "CLUSTER.launch_str",
        "CLUSTER.parsl_options",
        "CLUSTER:",
        f"{IDG}.species_dir",
        "MD.seed",
    ]


def _mistakes(directory: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(directory)
    return [describe(mistake) for mistake in caught.value.mistakes]


# Aliases, merge keys and numbers in names


def _by_geometry(inputs, md: str) -> None:
    for name in ("0.xyz", "1.xyz"):
        (inputs.directory / name).touch()
    inputs.plant("aimsPAX.yaml", "MISC", "path_to_geometry", "{0: 0.xyz, 1: 1.xyz}")
    inputs.project["MD"] = md


def test_an_override_in_one_geometry_leaves_its_alias_alone(inputs):
    _by_geometry(inputs, "{0: &a {stat_ensemble: NVT}, 1: *a}")
    settings = inputs.load({"MD.1.temperature": 500})
    assert (settings.md(0).temperature, settings.md(1).temperature) == (300, 500)


def test_merge_keys_are_read_and_own_keys_go_before(inputs):
    _by_geometry(
        inputs, "{0: &a {stat_ensemble: NVT, temperature: 200}, 1: {<<: *a, temperature: 400}}"
    )
    settings = inputs.load()
    assert (settings.md(0).temperature, settings.md(1).temperature) == (200, 400)
    assert settings.md(1).stat_ensemble == "nvt"


def test_a_list_of_merge_keys_is_read(inputs):
    _by_geometry(
        inputs,
        "{0: &a {stat_ensemble: NVT, timestep: 1.0}, "
        "1: {temperature: 400, <<: [*a, {timestep: 2.0, friction: 0.01}]}}",
    )
    md = inputs.load().md(1)
    assert (md.timestep, md.friction, md.temperature) == (1.0, 0.01, 400)


def test_a_mistake_that_is_merged_in_is_found_where_it_is_written(inputs):
    inputs.write()
    text = (inputs.directory / "aimsPAX.yaml").read_text()
    md = "MD:\n  stat_ensemble: NVT\n  <<:\n    temperature: -1\n"
    (inputs.directory / "aimsPAX.yaml").write_text(md + text.partition("MD:")[0])
    (mistake,) = _mistakes(inputs.directory)
    assert mistake.startswith("aimsPAX.yaml:4  MD.temperature: wrong value -1")


def test_a_key_that_is_twice_beside_a_merge_key_is_told(inputs):
    _by_geometry(inputs, "{0: &a {stat_ensemble: NVT}, 1: {<<: *a, tdamp: 1, tdamp: 2}}")
    (mistake,) = inputs.mistakes()
    assert "MD.1.tdamp: twice" in mistake


def test_a_number_that_is_no_decimal_is_an_unknown_key(inputs):
    (mistake,) = inputs.mistakes({"MD.²": 1})
    assert mistake.startswith("override  MD.²: unknown key")


def test_a_tag_that_is_a_number_stays_a_text(inputs):
    inputs.plant("aimsPAX.yaml", "ACTIVE_LEARNING", "seeds_tags_dict", '{"1": 1, b: 2, c: 3}')
    al = "ACTIVE_LEARNING.seeds_tags_dict"
    seeds = inputs.load({f"{al}.123": 4, f"{al}.1": 7}).al.seeds_tags_dict
    assert seeds == {"1": 7, "b": 2, "c": 3, "123": 4}


def test_an_atomic_number_in_an_override_is_that_of_the_file(inputs):
    inputs.plant("mace.yaml", "ARCHITECTURE", "atomic_energies", "{1: -13.0}")
    settings = inputs.load(
        {"ARCHITECTURE.atomic_energies.1": -14.0, "ARCHITECTURE.atomic_energies.8": -2000.0}
    )
    assert settings.model.ARCHITECTURE.atomic_energies == {1: -14.0, 8: -2000.0}


def test_overrides_by_geometry_may_be_numbers(inputs):
    inputs.project["MD"] = "{0: {stat_ensemble: NVT}}"
    assert inputs.load({"MD": {0: {"stat_ensemble": "NVE"}}}).md(0).stat_ensemble == "nve"
