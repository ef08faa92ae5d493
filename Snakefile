"""The study, from text to the report: `snakemake --cores all`, or `--configfile config/long.yaml` for another."""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.27.1")

# Snakemake merges a config file into an earlier one key by key, which would mix the systems of two studies
if "study" not in config:
    # that of the working folder, or else that of the project
    default = "config/config.yaml"
    if not Path(default).is_file():
        default = workflow.current_basedir.join(default).get_path_or_uri(secret_free=True)

    configfile: default


include: "rules/common.smk"
include: "rules/inputs.smk"


# prepare, finetune, trace, calibrate, timing, summarize, figures, report, record; or prepare, tagging, record
for phase in PHASES_OF_STUDY:

    include: f"rules/{phase}.smk"


rule all:
    default_target: True
    input:
        everything_else,
        PATHS.records,
