"""Which models show the same thing, and the split of each place.

Read `grouping` first (evidence to places), then the kinds of evidence: `places_file`, `photo_contents`,
`verified_matches`; `twins` finds models that are left out, `splits` draws validation. Imports `index`, `readers`,
`files` and `compute`.
"""
