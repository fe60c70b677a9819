"""Two actors on one data root, in every order of their steps that makes a difference."""
