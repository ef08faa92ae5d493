"""
Summary: accuracy, calibration, work and time in one row for each operating point.

REQUIRED INPUTS: operating points, dev traces, temperatures and timing of every task.
OUTPUTS: results/{study}/summary.csv, summary_{task}.csv, metrics.json, buckets.csv, promises.csv, curves/*.csv; where
the study has an ablation, summary_ablation_{task}.csv; where a task has triage, triage.csv.
"""


rule summarize:
    """Write the summary tables and the data behind the figures."""
    input:
        operating_points=[PATHS.operating_points(task) for task in STUDY.tasks],
        traces=[PATHS.trace(task, *run, "dev") for task in STUDY.tasks for run in runs()],
        calibrations=[PATHS.calibration(task, *run) for task in STUDY.tasks for run in runs()],
        timing=[PATHS.timing(task) for task in STUDY.tasks],
        timing_state=[PATHS.timing_state(task) for task in STUDY.tasks],
        sources=sources_of("workflow_scripts.summarize"),
    output:
        summary=PATHS.summary,
        paper=[PATHS.paper_summary(task) for task in STUDY.tasks],
        metrics=PATHS.metrics,
        buckets=PATHS.buckets,
        promises=PATHS.promises,
        curves=[PATHS.curve(curve) for curve in CURVES],
        ablation=[PATHS.ablation_summary(task) for task in STUDY.tasks if STUDY.ablation],
        triage=TRIAGE_TABLES,
    log:
        PATHS.log("summarize"),
    benchmark:
        PATHS.benchmark("summarize")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.summarize"),
        study=STUDY.view(keys.SUMMARIZE),
        folder=PATHS.results,
    message:
        "summarizing"
    shell:
        "python -m workflow_scripts.summarize --study {params.study:q} --out {params.folder:q} 2>&1 | tee {log:q}"
