"""
Figures, each as PDF and SVG: one for each task or one for the study, as its module in eat/figures/ declares.

REQUIRED INPUTS: what the figures read: results/{study}/summary.csv, buckets.csv, curves/*.csv, the timed calls, the
shapes beside the dev traces, and of a study with an ablation summary_ablation_{task}.csv.
OUTPUTS: results/{study}/figures/{figure}_{task}.pdf and .svg, or {figure}.pdf and .svg for the whole study.
"""


def results_by_name(wildcards):
    """The files that a figure reads, by the names that it declares."""
    task = wildcards.get("task", first_task())
    shapes = [PATHS.trace(task, system, STUDY.seeds[0], "dev").with_suffix(".json") for system in STUDY.systems]
    return {
        name: shapes if name == "shapes" else [PATHS.result(name, task)] for name in FIGURES[wildcards.figure].reads
    }


def results_of(wildcards):
    """The same files in a row."""
    return [file for files in results_by_name(wildcards).values() for file in files]


def options_of(wildcards):
    """The options by which the command gets what a figure is drawn from."""
    exits = {name: {"rule": row.exits.rule, "tau": row.exits.tau} for name, row in STUDY.systems.items()}
    values = {
        "task": wildcards.get("task"),
        "reference": STUDY.reference,
        "exit_rules": json.dumps(exits, ensure_ascii=False),
    }
    given = {name: [values[name]] for name in FIGURES[wildcards.figure].takes} | results_by_name(wildcards)
    return [str(word) for name, words in given.items() for word in (option_of(name), *words)]


def part_of(wildcards):
    """What leaves the other figures out of the sources of this one."""
    return {"part": FIGURES[wildcards.figure].module, "within": "eat.figures"}


def caption_of(wildcards):
    """The text of a figure's caption."""
    (caption,) = captions([wildcards.figure])
    return (ROOT / caption).read_text(encoding="utf-8").strip()


rule plot_figure:
    """Draw a figure of one task."""
    input:
        results=results_of,
        sources=lambda wildcards: sources_of("workflow_scripts.figures", **part_of(wildcards)),
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
        code=lambda wildcards: code_of("workflow_scripts.figures", **part_of(wildcards)),
        options=options_of,
        caption=caption_of,
    message:
        "{wildcards.task}: drawing {wildcards.figure}"
    shell:
        "python -m workflow_scripts.figures {wildcards.figure} {params.options:q}"
        " --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"


rule plot_study_figure:
    """Draw a figure of the whole study."""
    input:
        results=results_of,
        sources=lambda wildcards: sources_of("workflow_scripts.figures", **part_of(wildcards)),
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
        code=lambda wildcards: code_of("workflow_scripts.figures", **part_of(wildcards)),
        options=options_of,
        caption=caption_of,
    message:
        "drawing {wildcards.figure}"
    shell:
        "python -m workflow_scripts.figures {wildcards.figure} {params.options:q}"
        " --pdf {output.pdf:q} --svg {output.svg:q} 2>&1 | tee {log:q}"
