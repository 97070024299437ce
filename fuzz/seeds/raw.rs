let a = r#"x "y" z"#; let b: &'static str = 'c';
