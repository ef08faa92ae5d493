"""
Traces: what every exit says of every text, and how many tokens live after every layer.

REQUIRED INPUTS: a trained model; a split.
OUTPUTS: results/{study}/traces/{task}/{system}/seed{seed}/{split}.parquet and .json.
"""


rule trace:
    """Run a model over a split once, at full depth."""
    input:
        weights=lambda wildcards: model_folder(wildcards) / "model.safetensors",
        config=lambda wildcards: model_folder(wildcards) / "config.json",
        tokenizer=lambda wildcards: model_folder(wildcards) / "tokenizer.json",
        split=PATHS.split("{task}", "{split}"),
        sources=sources_of("workflow_scripts.trace"),
    output:
        rows=PATHS.trace("{task}", "{system}", "{seed}", "{split}"),
        shape=PATHS.trace("{task}", "{system}", "{seed}", "{split}").with_suffix(".json"),
    params:
        model=model_folder,
        max_length=lambda wildcards: STUDY.tasks[wildcards.task].max_length,
    threads: STUDY.training.threads
    log:
        PATHS.log("trace", "{task}", "{system}", "seed{seed}", "{split}"),
    benchmark:
        PATHS.benchmark("trace", "{task}", "{system}", "seed{seed}", "{split}")
    message:
        "{wildcards.task}: tracing {wildcards.system}, seed {wildcards.seed}, on {wildcards.split}"
    shell:
        "python -m workflow_scripts.trace --name {wildcards.task:q}/{wildcards.system:q}/seed{wildcards.seed}"
        " --model {params.model:q} --split {input.split:q} --max-length {params.max_length} --threads {threads}"
        " --out {output.rows:q} 2>&1 | tee {log:q}"
