"""
Calibration and operating points, from the traces.

REQUIRED INPUTS: the traces of the calibration and dev splits.
OUTPUTS: results/{study}/calibration/{task}/{system}/seed{seed}.json; results/{study}/operating_points/{task}.parquet.
"""


rule calibrate:
    """Fit a temperature for each exit, or a threshold that keeps a promise, on the calibration split."""
    input:
        calibration=PATHS.trace("{task}", "{system}", "{seed}", "calibration"),
        dev=PATHS.trace("{task}", "{system}", "{seed}", "dev"),
        sources=sources_of("workflow_scripts.calibrate"),
    output:
        calibration=PATHS.calibration("{task}", "{system}", "{seed}"),
    log:
        PATHS.log("calibrate", "{task}", "{system}", "seed{seed}"),
    benchmark:
        PATHS.benchmark("calibrate", "{task}", "{system}", "seed{seed}")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.calibrate"),
        spec=lambda wildcards: STUDY.calibration_spec(wildcards.system, wildcards.task).to_json(),
    message:
        "{wildcards.task}: calibrating {wildcards.system}, seed {wildcards.seed}"
    shell:
        "python -m workflow_scripts.calibrate --spec {params.spec:q} --calibration {input.calibration:q}"
        " --dev {input.dev:q} --out {output.calibration:q} 2>&1 | tee {log:q}"


rule find_operating_points:
    """Replay every threshold over the traces, and choose one for each system on the calibration split."""
    input:
        calibration_traces=lambda wildcards: [PATHS.trace(wildcards.task, *run, "calibration") for run in runs()],
        dev_traces=dev_traces,
        calibrations=calibrations,
        sources=sources_of("workflow_scripts.calibrate_points"),
    output:
        points=PATHS.operating_points("{task}"),
    log:
        PATHS.log("find_operating_points", "{task}"),
    benchmark:
        PATHS.benchmark("find_operating_points", "{task}")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.calibrate_points"),
        study=lambda wildcards: STUDY.view(keys.CALIBRATE, [wildcards.task]),
    message:
        "{wildcards.task}: finding operating points"
    shell:
        "python -m workflow_scripts.calibrate_points --study {params.study:q} --task {wildcards.task:q}"
        " --out {output.points:q} 2>&1 | tee {log:q}"
