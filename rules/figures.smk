"""
Figures, each as PDF and SVG: one for each task or one for the study, as its module in eat/figures/ declares.

REQUIRED INPUTS: what the figures read: results/{study}/summary.csv, buckets.csv, curves/*.csv, the timed calls, the
shapes beside the dev traces, and of a study with an ablation summary_ablation_{task}.csv.
OUTPUTS: results/{study}/figures/{figure}_{task}.pdf and .svg, or {figure}.pdf and .svg for the whole study.
"""


rule plot_figure:
    """Draw a figure of one task."""
    input:
        results=figure_results,
        sources=lambda wildcards: sources_of("workflow_scripts.figures", **figure_part(wildcards)),
    output:
        pdf=PATHS.figure("{figure}", "{task}", "pdf"),
        svg=report(
            PATHS.figure("{figure}", "{task}", "svg"),
            # the path of a caption takes no wildcards; this one prints `params.caption`
            caption="../report/captions/figure.rst",
            category="{task}",
            labels={"figure": "{figure}"},
        ),
    log:
        PATHS.log("plot_figure", "{figure}", "{task}"),
    benchmark:
        PATHS.benchmark("plot_figure", "{figure}", "{task}")
    wildcard_constraints:
        figure=one_of(TASK_FIGURES),
    conda:
        "../envs/study.yaml"
    params:
        code=lambda wildcards: code_of("workflow_scripts.figures", **figure_part(wildcards)),
        options=figure_options,
        caption=figure_caption,
    message:
        "{wildcards.task}: drawing {wildcards.figure}"
    shell:
        "python -m workflow_scripts.figures {wildcards.figure} {params.options:q}"
        " --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"


rule plot_study_figure:
    """Draw a figure of the whole study."""
    input:
        results=figure_results,
        sources=lambda wildcards: sources_of("workflow_scripts.figures", **figure_part(wildcards)),
    output:
        pdf=PATHS.study_figure("{figure}", "pdf"),
        svg=report(
            PATHS.study_figure("{figure}", "svg"),
            caption="../report/captions/figure.rst",
            category="study",
            labels={"figure": "{figure}"},
        ),
    log:
        PATHS.log("plot_study_figure", "{figure}"),
    benchmark:
        PATHS.benchmark("plot_study_figure", "{figure}")
    wildcard_constraints:
        figure=one_of(STUDY_FIGURES),
    conda:
        "../envs/study.yaml"
    params:
        code=lambda wildcards: code_of("workflow_scripts.figures", **figure_part(wildcards)),
        options=figure_options,
        caption=figure_caption,
    message:
        "drawing {wildcards.figure}"
    shell:
        "python -m workflow_scripts.figures {wildcards.figure} {params.options:q}"
        " --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"
