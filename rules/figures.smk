"""
Figures, each as PDF and SVG: one of what the systems are, the others for each task.

REQUIRED INPUTS: results/{study}/summary.csv, buckets.csv, curves/*.csv and, where there is an ablation, summary_ablation_{task}.csv;
the timed calls; the shapes beside the dev traces.
OUTPUTS: results/{study}/figures/{figure}_{task}.pdf and .svg; overview.pdf and .svg.
"""


rule plot_overview:
    """What each system is built of, drawn from the shapes of its traces."""
    input:
        shapes=[
            PATHS.trace(first_task(), system, STUDY.seeds[0], "dev").with_suffix(".json") for system in STUDY.systems
        ],
        sources=sources_of("workflow_scripts.plot_overview"),
    output:
        pdf=PATHS.study_figure("overview", "pdf"),
        svg=report(
            PATHS.study_figure("overview", "svg"),
            caption="../report/captions/overview.rst",
            category="study",
            labels={"figure": "overview"},
        ),
    log:
        PATHS.log("plot_overview"),
    benchmark:
        PATHS.benchmark("plot_overview")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.plot_overview"),
        exits=json.dumps(
            {name: {"rule": row.exits.rule, "tau": row.exits.tau} for name, row in STUDY.systems.items()},
            ensure_ascii=False,
        ),
    message:
        "drawing the systems"
    shell:
        "python -m workflow_scripts.plot_overview --exits {params.exits:q} --shapes {input.shapes:q}"
        " --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"


rule plot_frontier:
    """Accuracy against latency and throughput, with intervals and thresholds."""
    input:
        summary=PATHS.summary,
        sources=sources_of("workflow_scripts.plot_frontier"),
    output:
        pdf=PATHS.figure("frontier", "{task}", "pdf"),
        svg=report(
            PATHS.figure("frontier", "{task}", "svg"),
            caption="../report/captions/frontier.rst",
            category="{task}",
            labels={"figure": "frontier"},
        ),
    log:
        PATHS.log("plot_frontier", "{task}"),
    benchmark:
        PATHS.benchmark("plot_frontier", "{task}")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.plot_frontier"),
        reference=STUDY.reference,
    message:
        "{wildcards.task}: drawing the frontier"
    shell:
        "python -m workflow_scripts.plot_frontier --task {wildcards.task:q} --reference {params.reference:q}"
        " --summary {input.summary:q} --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"


rule plot_latency:
    """How the times of single calls are spread, with p50, p90 and p99."""
    input:
        summary=PATHS.summary,
        calls=PATHS.timing("{task}"),
        sources=sources_of("workflow_scripts.plot_latency"),
    output:
        pdf=PATHS.figure("latency", "{task}", "pdf"),
        svg=report(
            PATHS.figure("latency", "{task}", "svg"),
            caption="../report/captions/latency.rst",
            category="{task}",
            labels={"figure": "latency"},
        ),
    log:
        PATHS.log("plot_latency", "{task}"),
    benchmark:
        PATHS.benchmark("plot_latency", "{task}")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.plot_latency"),
        reference=STUDY.reference,
    message:
        "{wildcards.task}: drawing the distribution of latency"
    shell:
        "python -m workflow_scripts.plot_latency --task {wildcards.task:q} --reference {params.reference:q}"
        " --summary {input.summary:q} --calls {input.calls:q} --pdf {output.pdf:q} --svg {output.svg:q}"
        " 2>&1 | tee {log:q}"


rule plot_flops:
    """Saved time against saved FLOPs."""
    input:
        summary=PATHS.summary,
        sources=sources_of("workflow_scripts.plot_flops"),
    output:
        pdf=PATHS.figure("flops", "{task}", "pdf"),
        svg=report(
            PATHS.figure("flops", "{task}", "svg"),
            caption="../report/captions/flops.rst",
            category="{task}",
            labels={"figure": "flops"},
        ),
    log:
        PATHS.log("plot_flops", "{task}"),
    benchmark:
        PATHS.benchmark("plot_flops", "{task}")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.plot_flops"),
        reference=STUDY.reference,
    message:
        "{wildcards.task}: drawing FLOPs against time"
    shell:
        "python -m workflow_scripts.plot_flops --task {wildcards.task:q} --reference {params.reference:q}"
        " --summary {input.summary:q} --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"


rule plot_buckets:
    """Speed-up by the length of the text."""
    input:
        summary=PATHS.summary,
        buckets=PATHS.buckets,
        sources=sources_of("workflow_scripts.plot_buckets"),
    output:
        pdf=PATHS.figure("buckets", "{task}", "pdf"),
        svg=report(
            PATHS.figure("buckets", "{task}", "svg"),
            caption="../report/captions/buckets.rst",
            category="{task}",
            labels={"figure": "buckets"},
        ),
    log:
        PATHS.log("plot_buckets", "{task}"),
    benchmark:
        PATHS.benchmark("plot_buckets", "{task}")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.plot_buckets"),
        reference=STUDY.reference,
    message:
        "{wildcards.task}: drawing the speed-up by length"
    shell:
        "python -m workflow_scripts.plot_buckets --task {wildcards.task:q} --reference {params.reference:q}"
        " --summary {input.summary:q} --buckets {input.buckets:q} --pdf {output.pdf:q} --svg {output.svg:q}"
        " 2>&1 | tee {log:q}"


rule plot_curve:
    """Retention by layer, retention by length, exits, reliability, or predicted against observed cost."""
    input:
        summary=PATHS.summary,
        curve=PATHS.curve("{figure}"),
        sources=sources_of("workflow_scripts.plot_curve"),
    output:
        pdf=PATHS.figure("{figure}", "{task}", "pdf"),
        svg=report(
            PATHS.figure("{figure}", "{task}", "svg"),
            # the path of a caption takes no wildcards; this one prints `params.caption`
            caption="../report/captions/curve.rst",
            category="{task}",
            labels={"figure": "{figure}"},
        ),
    log:
        PATHS.log("plot_curve", "{figure}", "{task}"),
    benchmark:
        PATHS.benchmark("plot_curve", "{figure}", "{task}")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.plot_curve"),
        reference=STUDY.reference,
        caption=lambda wildcards: caption_of(wildcards.figure),
    message:
        "{wildcards.task}: drawing {wildcards.figure}"
    shell:
        "python -m workflow_scripts.plot_curve {wildcards.figure} --task {wildcards.task:q}"
        " --reference {params.reference:q} --summary {input.summary:q} --curve {input.curve:q}"
        " --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"


if STUDY.ablation:

    rule plot_ablation:
        """Computation and accuracy of the variants of a system, in the one way this study makes them."""
        input:
            ablation=PATHS.ablation_summary("{task}"),
            sources=sources_of("workflow_scripts.plot_ablation"),
        output:
            pdf=PATHS.figure("ablation", "{task}", "pdf"),
            svg=report(
                PATHS.figure("ablation", "{task}", "svg"),
                caption="../report/captions/ablation.rst",
                category="{task}",
                labels={"figure": f"ablation ({STUDY.ablation.kind})"},
            ),
        log:
            PATHS.log("plot_ablation", "{task}"),
        benchmark:
            PATHS.benchmark("plot_ablation", "{task}")
        conda:
            "../envs/study.yaml"
        params:
            code=code_of("workflow_scripts.plot_ablation"),
        message:
            "{wildcards.task}: drawing the ablation"
        shell:
            "python -m workflow_scripts.plot_ablation --task {wildcards.task:q} --ablation {input.ablation:q}"
            " --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"
