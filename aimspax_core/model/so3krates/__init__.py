"""The families So3krates and SO3LR: everything that knows the package `so3krates-torch`.

What its release 0.2.1 does that the modules here must heed:

- Building a model, and its calculators, set torch's default number format for the whole process.
- A forward pass leaves its whole graph in attributes of the model (`ctx`, `positions`, …): it could
  not be copied afterwards, keeps the memory, and would write the structures into its file.
- All of 118 elements have weights; which were trained is not said (see `network.elements_of`).
- `energy_shifts`, the energies of the atoms, are a weight that is trained.
- What it keeps from training by the name `embedding` are tables of charges and Hirshfeld ratios,
  too (see `tuned_weights`), and with `naive` it keeps nothing.
- Long-range terms without `r_max_lr` fail in the forward pass, for want of edges.
"""
