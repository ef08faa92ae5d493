"""
Fine-tuning: one job per stage of a system's recipe, task and seed.

REQUIRED INPUTS: data/{study}/{task}/{train,unlabelled}.parquet and card.json; the backbone or the parent's model; the
teacher's trace of these texts, where the stage learns from its logits, and its model, where it learns from its layers.
OUTPUTS: results/{study}/models/{task}/{system}/seed{seed}/{stage}/.

Thresholds and exit rules are not among the parameters: changing them does not repeat the training.
"""


rule finetune:
    """Train one stage; an interrupted job resumes from its newest complete checkpoint."""
    input:
        train=training_texts,
        card=PATHS.card("{task}"),
        parent=parent_files,
        teacher=teacher_traces,
        teacher_model=teacher_model_files,
        sources=sources_of("workflow_scripts.finetune"),
    output:
        config=PATHS.model("{task}", "{system}", "{seed}", "{stage}") / "config.json",
        weights=PATHS.model("{task}", "{system}", "{seed}", "{stage}") / "model.safetensors",
        tokenizer=PATHS.model("{task}", "{system}", "{seed}", "{stage}") / "tokenizer.json",
        tokenizer_config=PATHS.model("{task}", "{system}", "{seed}", "{stage}") / "tokenizer_config.json",
        training_log=PATHS.model("{task}", "{system}", "{seed}", "{stage}") / "train_log.jsonl",
    log:
        PATHS.log("finetune", "{task}", "{system}", "seed{seed}", "{stage}"),
    benchmark:
        PATHS.benchmark("finetune", "{task}", "{system}", "seed{seed}", "{stage}")
    wildcard_constraints:
        task=one_of(map(STUDY.trained_task, STUDY.tasks)),
    # before traces, which no training waits for
    priority: 1
    conda:
        "../envs/study.yaml"
    threads: STUDY.training.threads * STUDY.training.gpus
    resources:
        gpu=gpus(STUDY.training.device, STUDY.training.gpus),
    params:
        code=code_of("workflow_scripts.finetune"),
        spec=lambda wildcards: STUDY.training_spec(wildcards.task, wildcards.system, wildcards.stage).to_json(),
        parent=parent_folder,
        folder=subpath(output.config, parent=True),
        teacher=teacher_options,
        checkpoints=PATHS.checkpoints,
    message:
        "{wildcards.task}: fine-tuning {wildcards.system}, seed {wildcards.seed}, stage {wildcards.stage}"
    shell:
        "python -m workflow_scripts.finetune --name {wildcards.task:q}/{wildcards.system:q}/seed{wildcards.seed}"
        " --spec {params.spec:q} --parent {params.parent:q} --train {input.train:q} --card {input.card:q}"
        " {params.teacher:q} --seed {wildcards.seed} --threads {threads} --checkpoints {params.checkpoints:q}"
        " --out {params.folder:q} 2>&1 | tee {log:q}"


rule trace_teacher:
    """Run a teacher once over the training or the unlabelled texts, for all its students."""
    input:
        model=model_files,
        split=PATHS.split("{task}", "{split}"),
        card=PATHS.card("{task}"),
        sources=lambda wildcards: sources_of("workflow_scripts.trace", engine_module(wildcards), PACKAGE),
    output:
        trace=PATHS.trace("{task}", "{system}", "{seed}", "{split}"),
        shape=PATHS.trace("{task}", "{system}", "{seed}", "{split}").with_suffix(".json"),
    log:
        PATHS.log("trace_teacher", "{task}", "{system}", "seed{seed}", "{split}"),
    benchmark:
        PATHS.benchmark("trace_teacher", "{task}", "{system}", "seed{seed}", "{split}")
    wildcard_constraints:
        split="train|unlabelled",
    # before traces, which no training waits for
    priority: 1
    conda:
        "../envs/study.yaml"
    threads: STUDY.training.threads
    resources:
        gpu=gpus(STUDY.training.device),
    params:
        code=lambda wildcards: code_of("workflow_scripts.trace", part=engine_module(wildcards), within=PACKAGE),
        models=model_folders,
        parts=lambda wildcards: canonical_json(STUDY.parts(wildcards.system).plain()),
        max_length=lambda wildcards: STUDY.tasks[wildcards.task].max_length,
        device=STUDY.training.device,
        folder=subpath(output.trace, parent=True),
    message:
        "{wildcards.task}: tracing the teacher {wildcards.system}, seed {wildcards.seed}, {wildcards.split}"
    shell:
        "python -m workflow_scripts.trace --name {wildcards.task:q}/{wildcards.system:q}/seed{wildcards.seed}"
        " --models {params.models:q} --parts {params.parts:q} --max-length {params.max_length} --device {params.device}"
        " --threads {threads} --splits {input.split:q} --card {input.card:q} --out {params.folder:q} 2>&1 | tee {log:q}"
