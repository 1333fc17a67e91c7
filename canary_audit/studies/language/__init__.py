"""Language models as studies see them: trained through the pipeline, with one look after every epoch."""
