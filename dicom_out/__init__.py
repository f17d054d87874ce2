"""Results as DICOM: structured reports, heatmap captures, checks and delivery."""
