"""
Figures, each as PDF and SVG, for each task.

REQUIRED INPUTS: results/{study}/summary.csv, curves/*.csv and, where there is an ablation, summary_ablation_{task}.csv.
OUTPUTS: results/{study}/figures/{figure}_{task}.pdf and .svg.
"""


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
        reference=STUDY.reference,
    message:
        "{wildcards.task}: drawing the frontier"
    shell:
        "python -m workflow_scripts.plot_frontier --task {wildcards.task:q} --reference {params.reference:q}"
        " --summary {input.summary:q} --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"


rule plot_curve:
    """Retention by layer, retention by length, exits, or reliability."""
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
        message:
            "{wildcards.task}: drawing the ablation"
        shell:
            "python -m workflow_scripts.plot_ablation --task {wildcards.task:q} --ablation {input.ablation:q}"
            " --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"
