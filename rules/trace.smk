"""
Traces: the output of every exit for every text, and the number of live tokens after every layer.

REQUIRED INPUTS: a trained model; the calibration and dev splits (for a teacher, the training split) and their card.
OUTPUTS: results/{study}/traces/{task}/{system}/seed{seed}/{split}.parquet and .json; for the rows of a search
results/{study}/trials/{task}/{system}/seed{seed}/calibration.parquet and .json.
"""


rule trace:
    """Run a model once over the calibration and dev splits, at full depth."""
    input:
        model=model_files,
        splits=[PATHS.split("{task}", split) for split in ("calibration", "dev")],
        card=PATHS.card("{task}"),
        sources=lambda wildcards: sources_of("workflow_scripts.trace", engine_module(wildcards), PACKAGE),
    output:
        calibration=PATHS.trace("{task}", "{system}", "{seed}", "calibration"),
        calibration_shape=PATHS.trace("{task}", "{system}", "{seed}", "calibration").with_suffix(".json"),
        dev=PATHS.trace("{task}", "{system}", "{seed}", "dev"),
        dev_shape=PATHS.trace("{task}", "{system}", "{seed}", "dev").with_suffix(".json"),
    log:
        PATHS.log("trace", "{task}", "{system}", "seed{seed}"),
    benchmark:
        PATHS.benchmark("trace", "{task}", "{system}", "seed{seed}")
    conda:
        "../envs/study.yaml"
    threads: STUDY.training.threads
    resources:
        gpu=gpus(STUDY.trace_device),
    params:
        code=lambda wildcards: code_of("workflow_scripts.trace", part=engine_module(wildcards), within=PACKAGE),
        models=model_folders,
        parts=lambda wildcards: canonical_json(STUDY.parts(wildcards.system).plain()),
        max_length=lambda wildcards: STUDY.tasks[wildcards.task].max_length,
        device=STUDY.trace_device,
        folder=subpath(output.dev, parent=True),
    message:
        "{wildcards.task}: tracing {wildcards.system}, seed {wildcards.seed}"
    shell:
        "python -m workflow_scripts.trace --name {wildcards.task:q}/{wildcards.system:q}/seed{wildcards.seed}"
        " --models {params.models:q} --parts {params.parts:q} --max-length {params.max_length} --device {params.device}"
        " --threads {threads} --splits {input.splits:q} --card {input.card:q} --out {params.folder:q} 2>&1 | tee {log:q}"


rule trace_trial:
    """Run a row of a search once over the calibration split alone, at full depth: `eat tune` never sees dev."""
    input:
        model=model_files,
        split=PATHS.split("{task}", "calibration"),
        card=PATHS.card("{task}"),
        sources=lambda wildcards: sources_of("workflow_scripts.trace", engine_module(wildcards), PACKAGE),
    output:
        trace=trial_trace(PATHS, "{task}", "{system}", "{seed}"),
        shape=trial_trace(PATHS, "{task}", "{system}", "{seed}").with_suffix(".json"),
    log:
        PATHS.log("trace_trial", "{task}", "{system}", "seed{seed}"),
    benchmark:
        PATHS.benchmark("trace_trial", "{task}", "{system}", "seed{seed}")
    conda:
        "../envs/study.yaml"
    threads: STUDY.training.threads
    resources:
        gpu=gpus(STUDY.trace_device),
    params:
        code=lambda wildcards: code_of("workflow_scripts.trace", part=engine_module(wildcards), within=PACKAGE),
        models=model_folders,
        parts=lambda wildcards: canonical_json(STUDY.parts(wildcards.system).plain()),
        max_length=lambda wildcards: STUDY.tasks[wildcards.task].max_length,
        device=STUDY.trace_device,
        folder=subpath(output.trace, parent=True),
    message:
        "{wildcards.task}: tracing the trial {wildcards.system}, seed {wildcards.seed}"
    shell:
        "python -m workflow_scripts.trace --name {wildcards.task:q}/{wildcards.system:q}/seed{wildcards.seed}"
        " --models {params.models:q} --parts {params.parts:q} --max-length {params.max_length} --device {params.device}"
        " --threads {threads} --splits {input.split:q} --card {input.card:q} --out {params.folder:q} 2>&1 | tee {log:q}"


rule compare_importance:
    """Correlate each reducer's token scores with gradient saliency; only if `importance_texts` is set."""
    input:
        models=lambda wildcards: [
            PATHS.model(STUDY.trained_task(wildcards.task), trained, seed, stage) / "model.safetensors"
            for seed in STUDY.seeds
            for trained, stage in dict.fromkeys(model for system in STUDY.systems for model in STUDY.models_of(system))
        ],
        dev=PATHS.split("{task}", "dev"),
        sources=sources_of("workflow_scripts.trace_importance"),
    output:
        importance=PATHS.importance("{task}"),
    log:
        PATHS.log("compare_importance", "{task}"),
    benchmark:
        PATHS.benchmark("compare_importance", "{task}")
    conda:
        "../envs/study.yaml"
    threads: STUDY.training.threads
    resources:
        gpu=gpus(STUDY.trace_device),
    params:
        code=code_of("workflow_scripts.trace_importance"),
        study=lambda wildcards: STUDY.view(keys.IMPORTANCE, [wildcards.task]),
    message:
        "{wildcards.task}: comparing scores of importance"
    shell:
        "python -m workflow_scripts.trace_importance --study {params.study:q} --task {wildcards.task:q}"
        " --threads {threads} --out {output.importance:q} 2>&1 | tee {log:q}"
