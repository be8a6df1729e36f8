"""GFN-xTB through tblite."""
