"""
Timing: one job per task, in which all systems run in turn on the same texts.

REQUIRED INPUTS: all models of the task, their dev traces and temperatures; the dev split.
OUTPUTS: results/{study}/timing/{task}.parquet (every call) and .json (machine, noise, comparison with the trace).
"""


rule measure_time:
    """Time every operating point; fails if an answer differs from the trace by more than rounding explains."""
    input:
        models=lambda wildcards: [
            PATHS.model(STUDY.trained_task(wildcards.task), trained, seed, stage) / "model.safetensors"
            for seed in STUDY.seeds
            for trained, stage in dict.fromkeys(model for system in STUDY.systems for model in STUDY.models_of(system))
        ],
        traces=dev_traces,
        calibrations=calibrations,
        dev=PATHS.split("{task}", "dev"),
        sources=sources_of("workflow_scripts.timing"),
    output:
        calls=PATHS.timing("{task}"),
        state=PATHS.timing_state("{task}"),
    log:
        PATHS.log("measure_time", "{task}"),
    benchmark:
        PATHS.benchmark("measure_time", "{task}")
    conda:
        "../envs/study.yaml"
    # no other job may run during timing
    threads: all_cores
    resources:
        gpu=gpus(STUDY.timing.device),
    params:
        code=code_of("workflow_scripts.timing"),
        study=lambda wildcards: STUDY.view(keys.TIMING, [wildcards.task]),
    message:
        "{wildcards.task}: measuring time"
    shell:
        "python -m workflow_scripts.timing --study {params.study:q} --task {wildcards.task:q}"
        " --out {output.calls:q} --state {output.state:q} 2>&1 | tee {log:q}"
