"""The API of patients, studies, slices, analyses, judgements and imports: the same rules and acts as the pages."""
