"""The cellar: domain errors, guarded state changes, who may do what. It knows no other room."""
