"""Every MLflow tag that we set. All setters take the names from here."""

from __future__ import annotations

from enum import StrEnum


class Tag(StrEnum):
    """The name of a tag.

    | tag           | on the run of  | says                                                     | set in          |
    |---------------|----------------|----------------------------------------------------------|-----------------|
    | USER          | all            | who started it                                           | tracking        |
    | PARENT        | trial          | the id of the sweep's run, under which it is listed      | tracking        |
    | DESCRIPTION   | sweep          | the verdicts and the configurations' table               | tuning.report   |
    | VIEW          | (experiment)   | the columns that the runs table opens with               | tracking        |
    | STAGE         | sweep, trial   | sweep, explore or confirm                                | tuning          |
    | SWEEP         | trial          | the sweep's name                                         | tuning.report   |
    | DATASET       | all            | the hash of the data                                     | tuning, training|
    | CODE          | sweep, trial   | the commit or version that ran                           | tuning.report   |
    | EXTRACTOR     | trial, train   | the hash of the extractor that measured it               | training        |
    | PRECISION     | trial, train   | of the numbers that its products are of: bfloat16, ...   | training        |
    | TRIAL         | trial          | its name; of a registered model: that of its trial       | tuning          |
    | CONFIGURATION | trial          | the name; of a registered model: that of its trial       | tuning          |
    | GROUP         | trial          | the group's name, in a sweep of several                  | tuning.running  |
    | SEED          | trial, train   | the seed                                                 | tuning, training|
    | SCHEDULE      | trial          | settings by the step from which they held, as JSON       | tuning.running  |
    | OUTCOME       | trial, train   | running, or how it ended                                 | tuning, training|
    | REASON        | trial          | why it diverged or failed                                | tuning.running  |
    | VERDICT       | trial, sweep   | better, worse, ...; a sweep's name group, configuration  | tuning.report   |
    | FOLDER        | train          | where it is trained                                      | training        |
    | RESEEDED      | trial, train   | where it went on on another kind of device, if it did    | training        |
    """

    USER = "mlflow.user"
    PARENT = "mlflow.parentRunId"
    DESCRIPTION = "mlflow.note.content"
    VIEW = "mlflow.sharedViewState.kgan_ray"
    STAGE = "stage"
    SWEEP = "sweep"
    DATASET = "dataset"
    CODE = "code"
    EXTRACTOR = "extractor"
    PRECISION = "precision"
    TRIAL = "trial"
    CONFIGURATION = "configuration"
    GROUP = "group"
    SEED = "seed"
    SCHEDULE = "schedule"
    OUTCOME = "outcome"
    REASON = "reason"
    VERDICT = "verdict"
    FOLDER = "folder"
    RESEEDED = "reseeded"
