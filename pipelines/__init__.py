"""The stages that `dvc.yaml` calls, in order: ingest, prepare_base_model, train, evaluate, register."""
