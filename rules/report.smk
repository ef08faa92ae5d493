"""
Tables and the report, in LaTeX and HTML; a PDF if it is asked for (`snakemake --cores all render_pdf`).

REQUIRED INPUTS: results/{study}/summary*.csv, buckets.csv, promises.csv, curves, metrics.json, figures; where a run on a
GPU was published, docs/results/gpu.csv; where scores of tokens are compared, importance/{task}.csv; where a task has triage, triage.csv; timing state; cards; report/.
OUTPUTS: results/{study}/tables/*.tex; results/{study}/report/{results.tex,results_section.tex,report.html};
on demand results/{study}.pdf.
"""


rule render_tables:
    """Write a task's LaTeX tables."""
    input:
        summary=PATHS.summary,
        paper=PATHS.paper_summary("{task}"),
        card=PATHS.card("{task}"),
        published=from_here("report/published.yaml"),
        sources=sources_of("workflow_scripts.report_tables"),
    output:
        tables=[PATHS.table(kind, "{task}") for kind in TABLES],
    log:
        PATHS.log("render_tables", "{task}"),
    benchmark:
        PATHS.benchmark("render_tables", "{task}")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.report_tables", "report/published.yaml"),
        folder=PATHS.tables,
        title=lambda wildcards: STUDY.titles()[wildcards.task],
        reference=STUDY.reference,
    message:
        "{wildcards.task}: writing tables"
    shell:
        "python -m workflow_scripts.report_tables --task {wildcards.task:q} --title {params.title:q}"
        " --summary {input.summary:q} --paper {input.paper:q} --reference {params.reference:q} --published {input.published:q} --card {input.card:q}"
        " --out {params.folder:q} 2>&1 | tee {log:q}"


rule render_report:
    """Render the results section and the page from the results."""
    input:
        summary=PATHS.summary,
        metrics=PATHS.metrics,
        buckets=PATHS.buckets,
        promises=PATHS.promises,
        importance=importance_tables,
        triage=TRIAGE_TABLES,
        paper=[PATHS.paper_summary(task) for task in STUDY.tasks],
        curves=[PATHS.curve(curve) for curve in CURVES],
        ablation=ablation_tables,
        figures=figure_files,
        timing_state=[PATHS.timing_state(task) for task in STUDY.tasks],
        cards=[PATHS.card(task) for task in STUDY.tasks],
        gpu=[from_here(file) for file in ["docs/results/gpu.csv"] if (ROOT / file).is_file()],
        templates=[from_here(f"report/{file}") for file in TEMPLATES],
        captions=[from_here(file) for file in captions([*TASK_FIGURES, *STUDY_FIGURES])],
        sources=sources_of("workflow_scripts.report_page"),
    output:
        tex=PATHS.report / "results.tex",
        section=PATHS.report / "results_section.tex",
        page=report(
            PATHS.report / "report.html",
            caption="../report/captions/report.rst",
            category="report",
        ),
    log:
        PATHS.log("render_report"),
    benchmark:
        PATHS.benchmark("render_report")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of(
            "workflow_scripts.report_page",
            *(f"report/{file}" for file in TEMPLATES),
            *captions([*TASK_FIGURES, *STUDY_FIGURES]),
        ),
        study=STUDY.view(keys.REPORT),
        figures=canonical_json(
            [
                {"name": name, "of": figure.of, "place": figure.place}
                for name, figure in (STUDY_FIGURES | TASK_FIGURES).items()
            ]
        ),
        command=lambda wildcards: rebuild_command(),
        configfiles=[os.path.relpath(file) for file in workflow.configfiles],
        templates=lambda wildcards, input: os.path.dirname(input.templates[0]),
        gpu=lambda wildcards, input: ["--gpu", *input.gpu] if input.gpu else [],
        folder=subpath(output.tex, parent=True),
    message:
        "rendering the report"
    shell:
        "python -m workflow_scripts.report_page --study {params.study:q} --figures {params.figures:q}"
        " --command {params.command:q}"
        " --configfiles {params.configfiles:q} --templates {params.templates:q} {params.gpu:q} --out {params.folder:q} 2>&1 | tee {log:q}"


rule render_pdf:
    """Typeset the report. No rule needs the PDF, so that the plan is the same with and without a TeX engine."""
    input:
        tex=PATHS.report / "results.tex",
        section=PATHS.report / "results_section.tex",
        figures=figure_files,
        sources=sources_of("workflow_scripts.report_pdf"),
    output:
        pdf=PATHS.pdf,
    log:
        PATHS.log("render_pdf"),
    benchmark:
        PATHS.benchmark("render_pdf")
    conda:
        "../envs/study.yaml"
    params:
        code=code_of("workflow_scripts.report_pdf"),
    message:
        "typesetting the report"
    shell:
        "python -m workflow_scripts.report_pdf {input.tex:q} {output.pdf:q} 2>&1 | tee {log:q}"
