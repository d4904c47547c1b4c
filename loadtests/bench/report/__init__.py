"""The report shows records: rows and tables in the terminal, blocks of figures in Markdown pages, plots in SVG."""
