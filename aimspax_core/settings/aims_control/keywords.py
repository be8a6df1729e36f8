"""What is known of FHI-aims's keywords: names, forms of their values, and what labelling refuses.

Source: the manual of FHI-aims, chapter 3 (https://fhi-aims.org/uploads/manual), and public inputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aimspax_core.settings.reading.fortran import fortran_logical, fortran_number
from aimspax_core.text import or_list


def canonical_value(token: str) -> str:
    """Return one spelling for all spellings of a number or of a logical; words in lower case."""
    number = fortran_number(token)
    if number is not None:
        return repr(number + 0.0)  # -0. is 0.
    logical = fortran_logical(token)
    return token.lower() if logical is None else f".{str(logical).lower()}."


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


class Form(NamedTuple):
    """The values that a keyword takes.

    Attributes:
        kinds: What each value may be, in order.
        least: How many values there must be.
        words: All that in the user's words.
    """

    kinds: tuple[Callable[[str], bool], ...]
    least: int
    words: str

    def fits(self, values: tuple[str, ...]) -> bool:
        """Say whether these values have the form."""
        enough = self.least <= len(values) <= len(self.kinds)
        return enough and all(kind(v) for kind, v in zip(self.kinds, values, strict=False))


def _number(token: str) -> bool:
    return fortran_number(token) is not None


def _whole(token: str) -> bool:
    return re.fullmatch(r"\+?\d+", token, re.ASCII) is not None


def _positive(token: str) -> bool:
    return _whole(token) and token.strip("+0") != ""


def _logical(token: str) -> bool:
    return fortran_logical(token) is not None


def _word(token: str) -> bool:
    return fortran_number(token) is None


def _one_of(*names: str) -> Callable[[str], bool]:
    return lambda token: token.lower() in names


NUMBER = Form((_number,), 1, "a number")
WHOLE = Form((_whole,), 1, "a whole number")
LOGICAL = Form((_logical,), 1, ".true. or .false.")
FLAG = Form((_logical,), 0, "nothing, .true. or .false.")
WORD = Form((_word,), 1, "a name")


def _choice(*names: str) -> Form:
    return Form((_one_of(*names),), 1, or_list(names))


_RELATIVISTIC: dict[str, Form] = {
    **{
        zora: Form(
            (_word, _one_of("scalar", "spinor"), _number),
            2,
            f"{zora} scalar, perhaps with a threshold",
        )
        for zora in ("atomic_zora", "zora")
    },
    **{
        name: Form((_word,), 1, f"{name} alone")
        for name in ("none", "x2c", "q4c", "4c_dks", "own", "kolning_harmon", "koelling_harmon")
    },
}
_SMEARED = Form((_word, _number), 2, "a type and its width in eV, as in gaussian 0.01")
_OCCUPATION: dict[str, Form] = {
    **dict.fromkeys(("gaussian", "fermi", "cubic", "cold", "marzari-vanderbilt"), _SMEARED),
    "integer": Form((_word, _number), 1, "integer, perhaps with a width in eV"),
    "methfessel-paxton": Form(
        (_word, _number, _whole), 2, "methfessel-paxton with a width in eV and an order"
    ),
}
_ADJUST: dict[str, Form] = {
    "never": Form((_word, _whole), 1, "never"),
    **{w: Form((_word, _whole), 1, f"{w} and a whole number") for w in ("always", "once")},
}
_SCREENED = Form((_word, _number), 2, "its name and the screening parameter, as in hse06 0.11")

BY_FIRST_WORD: Mapping[str, Mapping[str, Form]] = {
    "relativistic": _RELATIVISTIC,
    "occupation_type": _OCCUPATION,
    "adjust_scf": _ADJUST,
}
"""Keywords whose first value says which values follow; no other first values are allowed."""

XC_FORMS: Mapping[str, Form] = {
    "hse06": _SCREENED,
    "dfauto": Form((_word,) * 3, 2, "dfauto and a functional"),
    "libxc": Form((_word,) * 3, 2, "libxc and its functionals, as in GGA_X_PBE+GGA_C_PBE"),
}
"""Forms of `xc` by functional, where more than its name is needed."""

FUNCTIONALS = frozenset(
    _names("""
am05 b1lyp b3lyp b86bpbe b86bpbe-25 b86bpbe-50 blyp cam-b3lyp dfauto hf hse03 hse06 lc_wpbeh
libxc lrc-xyg6 m06 m06-2x m06-hf m06-l m08-hx m08-so m11 m11-l mn12-l mp2 pbe pbe-vdw pbe0
pbe_vdw pbeint pbesol pbesol0 pw-lda pw91_gga pz-lda r2scan revpbe revpbe_vdw revtpss rpbe rscan
scan scan0 tpss tpssloc vwn vwn-gauss vwn5 xdh-pbe0 xpbe xyg3 xygjos zrps
""")
)

_FORMS: dict[str, Form] = {
    "spin": _choice("none", "collinear"),
    "mixer": _choice("linear", "pulay", "broyden"),
    "k_grid": Form((_positive,) * 3, 3, "three whole numbers from 1"),
    "k_offset": Form((_number,) * 3, 3, "three numbers"),
    "k_grid_density": Form((_number,) * 3, 1, "a number, or three"),
    "default_initial_moment": Form(
        (lambda token: _number(token) or token.lower() == "hund",), 1, "a number or hund"
    ),
    "sc_accuracy_rho": Form((_number,) * 2, 1, "a number (two with spin)"),
    "sc_accuracy_forces": Form(
        (lambda token: _number(token) or token.lower() == "not_checked",),
        1,
        "a number or not_checked",
    ),
    "hse_unit": Form(
        (lambda token: token[:1].lower() in ("a", "b"),), 1, "A (1/Angstrom) or bohr-1"
    ),
    "density_update_method": _choice(
        "automatic", "orbital", "density_matrix", "split_update_methods"
    ),
    "xc_pre": Form((_word, _positive), 2, "a functional and a number of iterations"),
    "include_spin_orbit": Form((_word,), 0, "nothing or a name"),
    "vdw_pair_ignore": Form((_word,) * 2, 2, "two species"),
    "vdw_correction": Form((_word,), 0, "nothing or a name"),
    **dict.fromkeys(("KS_method", "RI_method", "output_level", "packed_matrix_format"), WORD),
    **dict.fromkeys(
        _names("""
basis_threshold charge charge_mix_param delta_numerical_stress fixed_spin_moment
hartree_convergence_parameter hybrid_xc_coeff ini_linear_mix_param ini_spin_mix_param
lc_dielectric_constant occupation_acc occupation_thr packed_matrix_threshold prec_mix_param
prodbas_threshold sc_abandon_etot_threshold sc_accuracy_eev sc_accuracy_etot sc_accuracy_potjump
sc_accuracy_stress set_vacuum_level spin_mix_param vdw_convergence_threshold wave_threshold
"""),
        NUMBER,
    ),
    **dict.fromkeys(
        _names("""
empty_states frequency_points ini_linear_mixing max_zeroin multiplicity n_max_pulay
points_in_batch sc_init_iter sc_iter_limit walltime
"""),
        WHOLE,
    ),
    **dict.fromkeys(
        _names("""
compute_analytical_stress compute_forces compute_numerical_stress final_forces_cleaned
override_illconditioning symmetry_reduced_k_grid
"""),
        LOGICAL,
    ),
    **dict.fromkeys(
        _names("""
compensate_multipole_errors compute_heat_flux evaluate_work_function override_relativity
override_warning_libxc use_dipole_correction vdw_correction_hirshfeld
vdw_correction_hirshfeld_alkali
"""),
        FLAG,
    ),
}
FORMS: Mapping[str, Form] = {name.lower(): form for name, form in _FORMS.items()}
"""Forms by keyword in lower case. Each of these keywords holds once."""

ONCE = frozenset({"xc", *BY_FIRST_WORD, *FORMS}) - {"vdw_pair_ignore"}
"""Keywords that hold once: a second one would silently win or lose."""

_GENERAL = """
adjust_scf aggregated_energy_tolerance anacon_type analytic_potential_average atomic_solver
atomic_solver_xc auxil_basis basis_threshold batch_distribution_method batch_size_limit
bs_unfolding bs_unfolding_output_state_ene bse_lower_limit bse_reduce_matrix bse_reduce_occ
bse_reduce_unocc bse_upper_limit calc_dens_superpos calc_spectral_func calculate_all_eigenstates
calculate_atom_bsse calculate_fock_matrix_version calculate_friction calculate_perturbative_soc
cavity_restart charge charge_mix_param check_cpu_consistency check_md_stop check_stacksize
cholesky_method collect_eigenvectors communicate_pimd_wrapper communication_type
compensate_multipole_errors
compute_analytical_stress compute_dielectric compute_dipolematrix compute_esp_charges
compute_forces compute_greenwood compute_heat_flux compute_kinetic compute_momentummatrix
compute_numerical_stress constraint_debug constraint_electrons constraint_it_lim constraint_mix
constraint_precision contour_def_gw contour_def_offset contour_eta contour_restart
contour_spin_channel contour_zshot_offset coul_mat_threshold coulomb_threshold crit_val cube
cube_content_unit cube_default_size_safeguard debugmanager default_initial_moment
default_max_l_prodbas default_max_n_prodbas default_prodbas_acc delta_numerical_stress
deltascf_basis deltascf_dipole deltascf_projector density_update_method DFPT DFPT_accuracy_n1
DFPT_max_iterations DFPT_mixing DFPT_occupation_type DFPT_pulay_steps DFPT_restart
DFPT_restart_read_DM1 DFPT_restart_write_DM1 DFPT_sc_accuracy_dm DFPT_width distributed_hessian
distributed_spline_storage dos_kgrid_factors dry_run ELPA_AEO elpa_settings
elsi_chase_evecs_recycling elsi_eigenexa_method elsi_elpa_gpu elsi_elpa_n_single elsi_elpa_solver
elsi_extrap_dm elsi_filter elsi_magma_solver elsi_method elsi_ntpoly_filter elsi_ntpoly_method
elsi_ntpoly_tol elsi_omm_flavor elsi_omm_n_elpa elsi_omm_tol elsi_output elsi_output_matrix
elsi_pexsi_method elsi_pexsi_np_symbo elsi_pexsi_np_symbolic elsi_restart elsi_restart_use_overlap
elsi_rw_filter elsi_sips_interval elsi_sips_n_elpa elsi_sips_n_slice elsi_sips_slice_type
elsi_solver empty_states energy_density energy_tolerance esp evaluate_work_function
external_pressure exx_band_structure_version fast_Ylm fermi_acc final_forces_cleaned
finite_nuclear_size fixed_spin_moment fo_deltaplus fo_dft fo_options fo_orbitals fo_verbosity
force_complex_eigenvectors force_hermitian_overlap force_lebedev force_mpi_virtual_topo
force_new_functional force_occupation_basis force_occupation_projector
force_occupation_projector_auto force_occupation_projector_redsub force_potential
force_single_restartfile freeze_core freq_grid_type frequency_points friction_accuracy_eev
friction_accuracy_etot friction_accuracy_potjump friction_accuracy_rho friction_broadening_width
friction_delta_type friction_discretization_length friction_iter_limit friction_max_energy
friction_numeric_disp friction_q_integration friction_read_matrices friction_temperature
friction_window_size frozen_core frozen_core_postscf frozen_core_scf frozen_core_scf_cutoff
frozen_core_scf_factor frozen_virtual_postscf full_cmplx_sigma gamma_cut_coulomb
global_memory_tracking grid_partitioning_method grouping_factor gw_hedin_shift gw_zshot
harmonic_length_scale hartree_convergence_parameter hartree_fourier_part_th hartree_partition_type
hartree_potential_version hartree_radius_threshold hartree_worksize hessian_to_restart_geometry
hf_version hse_unit hybrid_coeff hybrid_xc_coeff include_pw_lda_in_v_eff include_spin_orbit
include_spin_orbit_sc increase_smearing ini_linear_mix_param ini_linear_mixing
ini_linear_mixing_constraint ini_spin_mix_param init_hess initial_ev_solutions
isc_calculate_surface_and_volume isc_cavity_restart isc_cavity_restart_read
isc_cavity_restart_write isc_cavity_type isc_delta_r isc_dt isc_dynamics_friction
isc_gradient_threshold isc_isodensity_value isc_kill_ratio isc_max_dyn_steps
isc_record_cavity_creation isc_rho_k isc_rho_rel_deviation_threshold
isc_surface_curvature_correction isc_surface_sampling isc_try_restore_convergence
isc_update_nlist_interval iterations_sc_cd k_grid k_grid_density k_offset k_points_external
KH_post_correction KS_method lc_dielectric_constant legacy_monopole_extrapolation line_step_reduce
linear_mix_param linear_spin_mix_param load_balancing lopcg_auto_blocksize lopcg_block_size
lopcg_preconditioner lopcg_start_tolerance lopcg_tolerance magnetic_response many_body_dispersion
many_body_dispersion_alt many_body_dispersion_dev many_body_dispersion_mod many_body_dispersion_nl
many_body_dispersion_pre2019 many_body_dispersion_rsscs max_atomic_move max_lopcg_iterations
max_relaxation_steps max_tasks_per_smp_node max_zeroin maximum_frequency maximum_time mbd_beta
mbd_cfdm_dip_cutoff mbd_eigensolver mbd_intermediate_steps mbd_scs_dip_cutoff mbd_supercell_cutoff
MD_clean_rotations MD_gle_A MD_gle_C MD_maxsteps MD_MB_init MD_QH_init MD_restart
MD_restart_binary MD_run MD_schedule MD_segment MD_thermostat_units MD_time_step min_batch_size
min_line_step mixer mixer_constraint mixer_swap_boundary mixer_threshold mpe_charge_per_dip
mpe_degree_of_determination mpe_factorization_type mpe_lmax_ep mpe_lmax_ep_additional_order
mpe_lmax_ep_from_radius mpe_lmax_rf mpe_max_it mpe_n_boundary_conditions mpe_n_centers_ep
mpe_nonelectrostatic_model mpe_skip_first_n_scf_steps mpe_solvent_permittivity mpe_tol_adjR2
mpe_tol_adjR2_wait_scf mpe_xml_logging mpe_xml_loglevel mr_experimental mu_determination_method
multip_moments_rad_threshold multip_moments_threshold multip_radius_free_threshold
multip_radius_threshold multiplicity n_anacon_par n_max_broyden n_max_pulay n_max_pulay_constraint
n_poles neutral_excitation nlcorr_i_leb nlcorr_nrad nocc_sc_cd normalize_initial_density
numerical_stress_save_scf nvirt_sc_cd occupation_acc occupation_thr occupation_type
only_atom_density onsite_accuracy_threshold onsite_integrand output output_boys_centers
output_cube_nth_iteration output_in_original_unit_cell output_level output_rs_matrices output_sxml
override_default_empty_states override_illconditioning override_initial_charge_check
override_integration_accuracy override_relativity override_warning_libxc
override_warning_negative_nucleus override_warning_nobasis packed_matrix_format
packed_matrix_threshold partition_acc partition_type periodic_gw_modify_head_with_dielec_func
periodic_gw_optimize periodic_gw_optimize_init periodic_gw_optimize_kgrid_symmetry
periodic_gw_optimize_lvl_init periodic_gw_optimize_single_precision periodic_gw_optimize_use_gpu
phonon plumed plus_u_dual plus_u_matrix_control plus_u_matrix_error plus_u_matrix_release
plus_u_out_eigenvalues plus_u_petukhov_mixing plus_u_ramping_accuracy plus_u_use_hydros
plus_u_use_mulliken points_in_batch pole_max pole_min postprocess_anyway prec_mix_param
precondition_before_mixing precondition_max_l preconditioner prerelax_bfgs print_input_librpa
print_self_energy printout_dft_components prodbas_threshold psi_at_nucleus python_hook qmmm
qpe_calc qpe_multi_solu qpe_solver read_sigc_imagfreq_grid recompute_batches_in_relaxation
reduced_memory_RI relative_fp_charge_mix relativistic relax_accuracy_forces relax_geometry
relax_unit_cell remove_unitary_forces restart restart_cache restart_eigenvectors_periodic
restart_exx restart_exx_read restart_exx_write restart_for_postscf restart_periodic_gw
restart_read_only restart_relaxations restart_save_iterations restart_write_only
restart_zora_read_only restart_zora_write_only restrict_kpoint_to_smp_node rho_multipole_threshold
ri_density_restart ri_fit ri_fit_assume_converged ri_fit_finite_q ri_fit_ovlp_cutoff_radius
ri_fit_reuse_2c ri_fit_total_density ri_fit_write_coeffs ri_fit_write_orbital_info
ri_fit_write_ovlp ri_fit_write_proj ri_full_output RI_method ri_multipole_threshold ri_skip_scf
rlsy_symmetry rrs_pbc sbtgrid_lnk0 sbtgrid_lnr0 sbtgrid_lnrange sbtgrid_N sc_abandon_etot
sc_accuracy_dm sc_accuracy_eev sc_accuracy_etot sc_accuracy_forces sc_accuracy_potjump
sc_accuracy_rho sc_accuracy_stress sc_init_factor sc_init_iter sc_iter_limit sc_self_energy
scalapack_block_size scgw_chem_pot scgw_it_limit scgw_mix_param scgw_no_core
scgw_print_all_spectrum scgw_scf_accuracy scs_mp2_parameters set_blacsdim set_blacsdim_cpt2
set_pair_block_cpt2 set_vacuum_level shift_gap skip_scf solvent space_group_analysis species
spectral_func_state spin spin_mix_param split_atoms split_batches squeeze_memory state_limits_ewin
state_lower_limit state_upper_limit store_eigenvectors_to_disk_in_relaxation stress_for_relaxation
summation_by_parts switch_external_pert symmetry_reduced_k_grid symmetry_reduced_k_grid_spg
TDDFT_input_dipole TDDFT_output_dipole TDDFT_output_energies TDDFT_propagator TDDFT_run
TDDFT_td_field time_points total_energy_method transport try_zshot use_2d_corr use_alltoall
use_aufbau_principle use_density_matrix use_density_matrix_hf use_dftpt2_and_hse
use_dipole_correction use_elsi use_elsi_dm use_embedding_pp use_ewald use_full_spectrum
use_full_symmetry use_gpu use_gpu_density use_gpu_elpa use_gpu_forces use_gpu_hamiltonian
use_gpu_hse use_gpu_kernel_compilation use_gpu_mp2 use_gpu_nlcorr use_hartree_log use_hf_kspace
use_hf_kspace_with_rpa use_inv_symmetry use_local_index use_logsbt
use_logsbt_for_radial_hse_integration use_metis_batching use_mpi_in_place use_ovlp_swap
use_pimd_wrapper use_qmmm use_scalapack_DFPT_phonon use_spglib use_split_xc_gw
use_symmetric_forces use_symmetry_analysis user_path vacuum_z_level vdw_convergence_threshold
vdw_correction vdw_correction_hirshfeld vdw_correction_hirshfeld_alkali vdw_method vdw_pair_ignore
vdw_ts vdwdf verbatim_writeout walltime wave_threshold wf_extrapolate wf_extrapolation wf_func
write_restart_geometry xc xc_pre xdm xml_file
"""
GENERAL: Mapping[str, str] = {name.lower(): name for name in (*_GENERAL.split(), *_FORMS)}
"""FHI-aims's spelling of each known keyword, by the keyword in lower case."""

SPECIES = frozenset(
    _names("""
angular angular_acc angular_grids angular_min aux_gaussian basis_acc basis_dep_cutoff cc_basis
cite_reference confined core core_states cut_atomic_basis cut_core cut_free_atom cut_pot
cutoff_type division element for_aux gaussian hirshfeld_param hubbard_coefficient hydro
include_min_basis innermost_max ion_occ ionic l_hartree logarithmic mass max_l_prodbas
max_n_prodbas nonlinear_core nucleus outer_grid plus_u plus_u_ramping pp_charge
pp_local_component prodbas_acc pseudo pure_gauss radial_base radial_multiplier
species_default_type species_z sto sto_basis valence
""")
)
"""Keywords of species blocks; none of them is a general keyword too."""

NOT_BASIS = frozenset(
    _names("""
basis_acc core core_states hirshfeld_param hubbard_coefficient nonlinear_core plus_u
plus_u_ramping pp_charge pp_local_component pseudo
""")
)
"""Those that no species default has and that change the answer."""

_GEOMETRY = frozenset(
    _names("""
atom atom_frac constrain_relaxation empty hessian_block hessian_block_lv homogeneous_field
initial_charge initial_moment lattice_vector multipole pseudocore symmetry_frac symmetry_lv
symmetry_n_params symmetry_params velocity
""")
)

ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(_GEOMETRY, "found in the wrong file; it is for geometry.in"),
    "species_dir": "found in the wrong file; it is a setting of the reference, in aimsPAX.yaml",
}
"""What is no keyword of control.in though users write it there."""

_MOVES = "aimspax moves the atoms itself and asks for one single point at a time; leave it out"
_VIBRATIONS = "aimspax asks for single points, not for vibrations or phonons; leave it out"
_MANY = "it makes many calculations of one, and a label is one single point; leave it out"
REFUSED: Mapping[str, str] = {
    "relax_geometry": _MOVES,
    "relax_unit_cell": _MOVES,
    "plumed": _MOVES,
    **dict.fromkeys(
        ("use_pimd_wrapper", "communicate_pimd_wrapper"),
        "aimspax starts FHI-aims for each single point itself, without a socket "
        "or i-PI; leave it out",
    ),
    "calculate_friction": _MANY,
    "calculate_atom_bsse": _MANY,
    "phonon": _VIBRATIONS,
    "tddft_run": "aimspax asks for the ground state, not for its propagation in time; leave it out",
    "dry_run": "with it FHI-aims checks its input and computes nothing; leave it out",
}
REFUSED_BEGINNINGS: Mapping[str, str] = {"md_": _MOVES, "pimd_": _MOVES}
REFUSED_DFPT = _VIBRATIONS
"""For `DFPT vibration…` and `DFPT phonon…`; other responses leave the atoms where they are."""

DOUBTFUL: Mapping[str, str] = {
    "total_energy_method": "the method comes after the self-consistent one; "
    "make sure that your FHI-aims has its forces",
    "dfpt": "the response costs time, and is not read",
    "qpe_calc": "the quasiparticle energies cost time, and are not read",
    "neutral_excitation": "the excitations cost time, and are not read",
    "magnetic_response": "the response costs time, and is not read",
}
"""What is passed on with a note."""

PART_OF = frozenset({"cube", "esp"})
"""Keywords that belong to the `output` before them."""

NO_ANSWER = frozenset(
    _names("""
ks_method check_cpu_consistency check_md_stop check_stacksize collect_eigenvectors
communication_type compute_analytical_stress compute_forces distributed_hessian
distributed_spline_storage elpa_settings elsi_elpa_gpu elsi_elpa_solver global_memory_tracking
grid_partitioning_method load_balancing max_relaxation_steps max_tasks_per_smp_node
min_batch_size output_level points_in_batch restart_save_iterations
restart_write_only restrict_kpoint_to_smp_node sc_iter_limit scalapack_block_size squeeze_memory
store_eigenvectors_to_disk_in_relaxation use_alltoall use_gpu use_gpu_density use_gpu_elpa
use_gpu_forces use_gpu_hamiltonian use_gpu_hse use_gpu_kernel_compilation use_local_index
use_metis_batching use_mpi_in_place verbatim_writeout walltime write_restart_geometry
""")
)
"""Keywords that change no converged energy, force or stress: how the work is spread over processes,
how much is printed, how long it may take, and what is added for forces anyway."""
