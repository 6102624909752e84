//! smol adapter
