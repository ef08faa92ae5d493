"""
Snakemake's records, which determine what is current, as a file that is stored with the results.

REQUIRED INPUTS: every other output of the study.
OUTPUTS: results/{study}/records.json, which `make sync` puts back after a checkout.
"""


rule record:
    """Collect Snakemake's records of all outputs, after every other job has ended."""
    input:
        results=everything_else,
        sources=sources_of("workflow_scripts.record"),
    output:
        records=PATHS.records,
    log:
        PATHS.log("record"),
    benchmark:
        PATHS.benchmark("record")
    localrule: True
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.record"),
        study=STUDY.study,
    message:
        "recording how the results were made"
    shell:
        "python -m workflow_scripts.record --study {params.study:q} --out {output.records:q} 2>&1 | tee {log:q}"


# here, since every rule is defined
require_records()


onsuccess:
    note_contents(PATHS)


onerror:
    note_contents(PATHS)
