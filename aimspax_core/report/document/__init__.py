"""The report of a campaign: `report.html` for people, `report.json` for programs, `report.bib`."""
