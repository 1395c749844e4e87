# What CI runs, by the same script: formatting, lints, tests, docs, dependency policy.
verify:
    bash .ci/run

# Rewrites what tests compare with: scenario outputs and published vectors. Read the diff.
regenerate:
    UPDATE_GOLDENFILES=1 cargo test -p tercet-core --test scenarios
    UPDATE_VECTORS=1 cargo test -p tercet-core --test vectors
