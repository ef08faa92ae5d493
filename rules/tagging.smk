"""
Sequence labelling: sentences, taggers, traces, operating points, timing, summary, figures and the report.

REQUIRED INPUTS: the user's CoNLL files; data/{study}/backbones/{backbone}/; report/tagging.html.jinja.
OUTPUTS: data/{study}/{task}/sentences_{train,calibration,dev}.parquet and sentences.json;
results/{study}/models/{task}/{system}/seed{seed}/tagger/;
results/{study}/traces/{task}/{system}/seed{seed}/{calibration,dev}.parquet and .json;
results/{study}/operating_points/{task}.parquet; results/{study}/timing/{task}.parquet and .json;
results/{study}/summary.csv; results/{study}/figures/frontier_{task}.pdf and .svg; results/{study}/report/report.html.

A study whose tasks have `kind: tagging` has this file in the place of the phases from `finetune` to `report`.
"""

from eat.study import tagging_keys
from workflow_scripts._phases import TAGGING_TEMPLATES


rule prepare_sentences:
    """Read a task's sentences, check every tag, and divide them by a stable hash."""
    input:
        files=lambda wildcards: SOURCE_FILES[wildcards.task],
        tokenizers=[PATHS.backbone(backbone) / "tokenizer.json" for backbone in STUDY.backbones],
        sources=sources_of("workflow_scripts.tagging_prepare"),
    output:
        train=PATHS.sentences("{task}", "train"),
        calibration=PATHS.sentences("{task}", "calibration"),
        dev=PATHS.sentences("{task}", "dev"),
        card=PATHS.sentences_card("{task}"),
    log:
        PATHS.log("prepare_sentences", "{task}"),
    benchmark:
        PATHS.benchmark("prepare_sentences", "{task}")
    # invalid sentences stop the run before any training starts
    priority: 100
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.tagging_prepare"),
        content=lambda wildcards: CONTENT_OF_TASK[wildcards.task],
        spec=lambda wildcards: canonical_json(
            STUDY.tasks[wildcards.task].model_dump(mode="json", exclude={"title", "epochs_scale"})
        ),
        backbones=[PATHS.backbone(backbone) for backbone in STUDY.backbones],
        folder=subpath(output.card, parent=True),
    message:
        "{wildcards.task}: preparing sentences"
    shell:
        "python -m workflow_scripts.tagging_prepare --task {wildcards.task:q} --spec {params.spec:q}"
        " --backbones {params.backbones:q} --out {params.folder:q} 2>&1 | tee {log:q}"


rule finetune_tagger:
    """Train a tagger; an interrupted job resumes from its newest complete checkpoint."""
    input:
        train=PATHS.sentences("{task}", "train"),
        card=PATHS.sentences_card("{task}"),
        backbone=lambda wildcards: [
            PATHS.backbone(STUDY.systems[wildcards.system].backbone) / file for file in BACKBONE_FILES
        ],
        sources=sources_of("workflow_scripts.tagging_finetune"),
    output:
        config=PATHS.tagger("{task}", "{system}", "{seed}") / "config.json",
        weights=PATHS.tagger("{task}", "{system}", "{seed}") / "model.safetensors",
        tokenizer=PATHS.tagger("{task}", "{system}", "{seed}") / "tokenizer.json",
        tokenizer_config=PATHS.tagger("{task}", "{system}", "{seed}") / "tokenizer_config.json",
        training_log=PATHS.tagger("{task}", "{system}", "{seed}") / "train_log.jsonl",
    log:
        PATHS.log("finetune_tagger", "{task}", "{system}", "seed{seed}"),
    benchmark:
        PATHS.benchmark("finetune_tagger", "{task}", "{system}", "seed{seed}")
    # before traces, which no training waits for
    priority: 1
    conda:
        "../envs/study.yaml"
    threads: STUDY.training.threads
    resources:
        gpu=gpus(STUDY.training.device),
    params:
        code=code_of("workflow_scripts.tagging_finetune"),
        spec=lambda wildcards: STUDY.training_spec(wildcards.task, wildcards.system).to_json(),
        backbone=lambda wildcards: PATHS.backbone(STUDY.systems[wildcards.system].backbone),
        folder=subpath(output.config, parent=True),
        checkpoints=PATHS.checkpoints,
    message:
        "{wildcards.task}: fine-tuning {wildcards.system}, seed {wildcards.seed}"
    shell:
        "python -m workflow_scripts.tagging_finetune --name {wildcards.task:q}/{wildcards.system:q}/seed{wildcards.seed}"
        " --spec {params.spec:q} --backbone {params.backbone:q} --train {input.train:q} --card {input.card:q}"
        " --seed {wildcards.seed} --threads {threads} --checkpoints {params.checkpoints:q} --out {params.folder:q}"
        " 2>&1 | tee {log:q}"


rule trace_tagger:
    """Tag the calibration and dev sentences at every operating point of a system."""
    input:
        model=lambda wildcards: [tagger_folder(wildcards) / file for file in BACKBONE_FILES],
        splits=[PATHS.sentences("{task}", split) for split in ("calibration", "dev")],
        sources=sources_of("workflow_scripts.tagging_trace"),
    output:
        calibration=PATHS.trace("{task}", "{system}", "{seed}", "calibration"),
        calibration_shape=PATHS.trace("{task}", "{system}", "{seed}", "calibration").with_suffix(".json"),
        dev=PATHS.trace("{task}", "{system}", "{seed}", "dev"),
        dev_shape=PATHS.trace("{task}", "{system}", "{seed}", "dev").with_suffix(".json"),
    log:
        PATHS.log("trace_tagger", "{task}", "{system}", "seed{seed}"),
    benchmark:
        PATHS.benchmark("trace_tagger", "{task}", "{system}", "seed{seed}")
    conda:
        "../envs/study.yaml"
    threads: STUDY.timing.threads
    params:
        code=code_of("workflow_scripts.tagging_trace"),
        model=tagger_folder,
        exits=lambda wildcards: canonical_json(STUDY.systems[wildcards.system].exits.plain()),
        # a machine with fewer cores must not change the answers' rounding
        of_timing=STUDY.timing.threads,
    message:
        "{wildcards.task}: tracing {wildcards.system}, seed {wildcards.seed}"
    shell:
        "python -m workflow_scripts.tagging_trace --name {wildcards.task:q}/{wildcards.system:q}/seed{wildcards.seed}"
        " --model {params.model:q} --exits {params.exits:q} --splits {input.splits:q} --threads {params.of_timing}"
        " --out {output.calibration:q} {output.dev:q} 2>&1 | tee {log:q}"


rule choose_points:
    """Choose an operating point for each system on the calibration split."""
    input:
        traces=lambda wildcards: tagging_traces(wildcards, "calibration"),
        sentences=PATHS.sentences("{task}", "calibration"),
        card=PATHS.sentences_card("{task}"),
        sources=sources_of("workflow_scripts.tagging_points"),
    output:
        points=PATHS.operating_points("{task}"),
    log:
        PATHS.log("choose_points", "{task}"),
    benchmark:
        PATHS.benchmark("choose_points", "{task}")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.tagging_points"),
        study=lambda wildcards: STUDY.view(tagging_keys.POINTS, [wildcards.task]),
    message:
        "{wildcards.task}: choosing operating points"
    shell:
        "python -m workflow_scripts.tagging_points --study {params.study:q} --task {wildcards.task:q}"
        " --out {output.points:q} 2>&1 | tee {log:q}"


rule time_taggers:
    """Time every operating point; fails if an answer differs from the trace by more than rounding explains."""
    input:
        models=taggers,
        traces=tagging_traces,
        sentences=PATHS.sentences("{task}", "dev"),
        sources=sources_of("workflow_scripts.tagging_timing"),
    output:
        calls=PATHS.timing("{task}"),
        state=PATHS.timing_state("{task}"),
    log:
        PATHS.log("time_taggers", "{task}"),
    benchmark:
        PATHS.benchmark("time_taggers", "{task}")
    conda:
        "../envs/study.yaml"
    # no other job may run during timing
    threads: all_cores
    params:
        code=code_of("workflow_scripts.tagging_timing"),
        study=lambda wildcards: STUDY.view(tagging_keys.TIMING, [wildcards.task]),
    message:
        "{wildcards.task}: measuring time"
    shell:
        "python -m workflow_scripts.tagging_timing --study {params.study:q} --task {wildcards.task:q}"
        " --out {output.calls:q} --state {output.state:q} 2>&1 | tee {log:q}"


rule summarize_taggers:
    """Write scores, work and time of every operating point."""
    input:
        points=[PATHS.operating_points(task) for task in STUDY.tasks],
        traces=[
            file
            for task in STUDY.tasks
            for run in runs()
            for trace in [PATHS.trace(task, *run, "dev")]
            for file in (trace, trace.with_suffix(".json"))
        ],
        sentences=[PATHS.sentences(task, "dev") for task in STUDY.tasks],
        cards=[PATHS.sentences_card(task) for task in STUDY.tasks],
        timing=[PATHS.timing(task) for task in STUDY.tasks],
        sources=sources_of("workflow_scripts.tagging_summarize"),
    output:
        summary=PATHS.summary,
    log:
        PATHS.log("summarize_taggers"),
    benchmark:
        PATHS.benchmark("summarize_taggers")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.tagging_summarize"),
        study=STUDY.view(tagging_keys.SUMMARIZE),
    message:
        "summarizing"
    shell:
        "python -m workflow_scripts.tagging_summarize --study {params.study:q} --out {output.summary:q} 2>&1 | tee {log:q}"


rule plot_tagging:
    """Draw the frontier of a task: its score against the measured speed-up."""
    input:
        summary=PATHS.summary,
        sources=sources_of("workflow_scripts.tagging_figure"),
    output:
        pdf=PATHS.figure("frontier", "{task}", "pdf"),
        svg=PATHS.figure("frontier", "{task}", "svg"),
    log:
        PATHS.log("plot_tagging", "{task}"),
    benchmark:
        PATHS.benchmark("plot_tagging", "{task}")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.tagging_figure"),
        reference=STUDY.reference,
    message:
        "{wildcards.task}: drawing the frontier"
    shell:
        "python -m workflow_scripts.tagging_figure --summary {input.summary:q} --task {wildcards.task:q}"
        " --reference {params.reference:q} --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"


rule render_tagging:
    """Render the page from the results."""
    input:
        summary=PATHS.summary,
        figures=[PATHS.figure("frontier", task, ending) for task in STUDY.tasks for ending in ("pdf", "svg")],
        timing_state=[PATHS.timing_state(task) for task in STUDY.tasks],
        cards=[PATHS.sentences_card(task) for task in STUDY.tasks],
        templates=[from_here(f"report/{file}") for file in TAGGING_TEMPLATES],
        sources=sources_of("workflow_scripts.tagging_report"),
    output:
        page=report(PATHS.page, caption="../report/captions/report.rst", category="report"),
    log:
        PATHS.log("render_tagging"),
    benchmark:
        PATHS.benchmark("render_tagging")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.tagging_report", *(f"report/{file}" for file in TAGGING_TEMPLATES)),
        study=STUDY.view(tagging_keys.REPORT),
        command=lambda wildcards: rebuild_command(),
        configfiles=[os.path.relpath(file) for file in workflow.configfiles],
        templates=lambda wildcards, input: os.path.dirname(input.templates[0]),
    message:
        "rendering the report"
    shell:
        "python -m workflow_scripts.tagging_report --study {params.study:q} --command {params.command:q}"
        " --configfiles {params.configfiles:q} --templates {params.templates:q} --out {output.page:q} 2>&1 | tee {log:q}"


MORE_RESULTS += rules.render_tagging.output
