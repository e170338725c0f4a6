"""The report of a run: one HTML page that needs nothing but a browser.

`page` builds pages from sections, whoever has something to say (`fedcell paper` too); `parts` are what
sections are made of. The rest reads a run's manifest, tables and events and fills such a page. Nothing here
measures.
"""
